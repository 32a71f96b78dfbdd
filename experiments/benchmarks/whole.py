"""Whole runs in a process of their own, run folder and checkpoints included."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.benchmarks.family import family, pss
from experiments.benchmarks.workload import configure
from server.reporters.in_memory import InMemory


@dataclass(frozen=True, slots=True)
class Run:
    """What a whole run took.

    Args:
        wall: Seconds from start to end of its process.
        rounds: Seconds of each round.
        peak: Bytes of all its processes together at their highest (proportional set size).
    """

    wall: float
    rounds: list[float]
    peak: int


def whole_run(mnist: Path | None, work: dict[str, int], *lines: str) -> Run:
    """Run once in a process of its own, and watch its memory."""
    cfg = configure(mnist, *lines, **work)
    with tempfile.TemporaryDirectory() as scratch:
        begun, peak = time.perf_counter(), 0
        command = [sys.executable, "-m", __name__, *write(cfg, scratch)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
            while process.poll() is None:
                peak = max(peak, sum(map(pss, family(process.pid))))
                time.sleep(0.2)
        wall = time.perf_counter() - begun
        if process.returncode:
            raise RuntimeError(f"the run ended with exit code {process.returncode}")
        text = (Path(scratch) / "run" / "events.jsonl").read_text(encoding="utf-8")
    events: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    rounds = [sum(e["seconds"].values()) for e in events if e["event"] == "round"]
    return Run(wall, rounds, peak)


def write(cfg: DictConfig, scratch: str) -> tuple[str, str]:
    """Write a configuration; return its file and a run folder, for :func:`perform`."""
    config = Path(scratch) / "config.yaml"
    config.write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")
    return str(config), f"{scratch}/run"


def perform(config: str, folder: str, watch: InMemory | None = None) -> None:
    """Run one configuration in this process, as the command does; ``watch`` is told of it."""
    from experiments.runs import lifecycle

    cfg = OmegaConf.load(config)
    assert isinstance(cfg, DictConfig)
    lifecycle.perform(lifecycle.open_run(cfg, Path(folder), []), [watch or InMemory()])


if __name__ == "__main__":
    perform(sys.argv[1], sys.argv[2])
