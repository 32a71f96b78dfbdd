"""A whole ``fedfuse`` run on the device, where the command's packages are installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from experiments.benchmarks.rows import Row, row

SMALL = ["model=mlp", "public.size=50", "evaluation.test_samples=100", "checkpoint.every=0"]
"""What keeps the dry run short."""

NEEDED = ("flwr", "hydra", "rich", "pyarrow", "safetensors", "yaml")


def measure(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:  # noqa: ARG001
    """Yield the seconds of a run's rounds, run folder and all."""
    clients, rounds = (3, 2) if tiny else (1_000, 4)
    what = f"a whole run, {clients:,} LeNets: seconds a round after the first"
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        note = f"not installed: {', '.join(missing)}"
        yield row("gpu", "whole_run", what, None, "s", note=note)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        command = [
            sys.executable, "-m", "experiments.run", "method=knfu", "dataset=synthetic",
            "dataset.image_size=28", f"dataset.num_train={1_500 + 100 * clients}",
            f"num_clients={clients}", f"num_rounds={rounds}", "warmup_rounds=0",
            "trainer=batched", f"client.device={device}", f"server.device={device}",
            f"hydra.run.dir={folder}", *(SMALL if tiny else []),
        ]  # fmt: skip
        begin = time.perf_counter()
        subprocess.run(command, check=True)  # noqa: S603 - our own command
        whole = time.perf_counter() - begin
        events = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    later = [
        event["seconds"]
        for event in map(json.loads, events)
        if event["event"] == "round" and event["round"] > 1
    ]
    phases = {name: sum(one.get(name, 0.0) for one in later) / len(later) for name in later[-1]}
    note = f"mean over both arms; the command took {whole:.1f} s in all"
    yield row("gpu", "whole_run", what, sum(phases.values()), "s", note=note)
    for name, spent in phases.items():
        note = f"{1e3 * spent / clients:.3g} ms a client"
        yield row("gpu", f"whole_run_{name}", f"  {name}", spent, "s", note=note)
