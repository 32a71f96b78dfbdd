"""What checkpoints cost: the time to save 100 LeNet-5 clients against the time of their round."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.benchmarks.rows import Row, row
from experiments.run import main
from server.app import Checkpointer

CLIENTS, SAMPLES = 100, 300


def measure(args: argparse.Namespace) -> list[Row]:
    """Run three rounds with checkpoints; the middle one counts."""
    spent: list[float] = []
    with tempfile.TemporaryDirectory(prefix="fedfuse-checkpoint-") as folder, timed(spent):
        path = Path(folder) / "run"
        overrides = [
            f"num_clients={CLIENTS}",
            "num_rounds=4",
            "model=lenet5",
            "baseline=none",
            "partitioner=iid",
            "dataset=synthetic",
            "dataset.image_size=28",
            f"dataset.num_train={CLIENTS * (60 if args.quick else SAMPLES)}",
            f"hydra.run.dir={path}",
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(overrides)
        if code:
            raise RuntimeError(f"the run ended with exit code {code}")
        lines = (path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event for line in lines if (event := json.loads(line))["event"] == "round"]
    # The last round is not saved, and the first makes models and files.
    rounds = [sum(event["seconds"].values()) for event in events][1:-1]
    share = sum(spent[1:-1]) / sum(rounds)
    note = (
        f"{1000 * sum(spent[1:-1]) / len(rounds):.0f} ms of {sum(rounds) / len(rounds):.1f} s, "
        f"{60 if args.quick else SAMPLES} samples a client"
    )
    what = f"checkpoint of {CLIENTS} LeNet-5 clients / their round"
    return [row("checkpoint", "checkpoint_ratio", what, share, "x", bar=0.05, note=note)]


@contextmanager
def timed(spent: list[float]) -> Iterator[None]:
    """Note how long each call of ``Checkpointer.keep`` takes."""
    real = Checkpointer.keep

    def keep(*args: object) -> None:
        begun = time.perf_counter()
        real(*args)  # type: ignore[arg-type]
        spent.append(time.perf_counter() - begun)

    Checkpointer.keep = keep  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Checkpointer.keep = real  # type: ignore[method-assign]
