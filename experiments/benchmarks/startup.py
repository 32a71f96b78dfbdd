"""``startup``: how long a command takes before it does what it was asked for."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.rows import Arguments, Row, in_turns, median_ratio, row

FIRST_STEP = """
import dataclasses, os, sys, time
from fedfuse.train import trainer

def first_step(model, optimizer, work, *rest):
    size = work.schedule.sizes[0]
    one = dataclasses.replace(work.schedule, order=work.schedule.order[:size], sizes=(size,))
    fit(model, optimizer, dataclasses.replace(work, schedule=one), *rest)
    print(time.time(), file=sys.stderr, flush=True)
    os._exit(0)

fit, trainer.fit = trainer.fit, first_step
from experiments.run import main
main(sys.argv[1:])
"""
"""The command itself, which prints the time after its first optimiser step and ends there."""


def measure(args: Arguments) -> list[Row]:
    """Return the ratio of ``fedfuse --help`` to importing Hydra, and the time to the first step."""
    python, repeats = sys.executable, max(3, args.repeats)
    main = "import sys; from experiments.run import main; sys.exit(main(['--help']))"
    sides: dict[str, Any] = in_turns(
        {
            "help": lambda: _seconds([python, "-c", main]),
            "hydra": lambda: _seconds([python, "-c", "import hydra"]),
            "torch": lambda: _seconds([python, "-c", "import torch"]),
            "first": _first_step,
        },
        repeats,
    )
    starts: dict[str, list[float]] = sides
    first: list[tuple[float, float]] = sides["first"]
    wall, cpu = (statistics.median(side) for side in zip(*first, strict=True))
    return [
        row("startup", "help_ratio", "fedfuse --help / import hydra",
            median_ratio(starts["help"], starts["hydra"]), "x", bar=1.5),
        row("startup", "seconds_first_step", "command to first training step",
            wall, "s", bar=4.0, note=f"default job; processor time {cpu:.2f} s;"
            f" import torch alone {statistics.median(starts['torch']):.2f} s"),
        row("startup", "first_step_ratio", "the same / import torch",
            wall / statistics.median(starts["torch"]), "x", bar=2.0, note="wall time, in turns"),
    ]  # fmt: skip


def _seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    return time.perf_counter() - begin


def _first_step() -> tuple[float, float]:
    """Return the wall and the processor seconds from the command to its first step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FIRST_STEP, f"hydra.run.dir={Path(folder) / 'run'}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.time()
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(done.stderr.split()[-1]) - begin, spent
