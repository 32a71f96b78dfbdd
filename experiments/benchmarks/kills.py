"""Kill a run at random instants, resume it until it is done, and compare it with an unbroken one.

``python -m experiments.benchmarks.kills [KILLS] [SEED]``; 200 kills by default. A fork that has
everything imported stands for a process, so that an instant costs no start-up.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.run import main

RUN = (
    "dataset=synthetic",
    "num_clients=3",
    "num_rounds=10",
    "model=mlp",
    "method=ktpfl",  # its scorer remembers what it has learnt
    "evaluation.test_samples=100",
    "public.size=60",
)
FILES = ("metrics.parquet", "baseline.parquet", "weights.safetensors")


@dataclass(slots=True)
class Toll:
    """What a series of kills came to.

    Args:
        kills: Processes that were killed.
        early: Of those, before the run had written its configuration, so that it began anew.
        runs: Runs that were finished in the end.
        different: Of those, with other files than the unbroken run.
    """

    kills: int = 0
    early: int = 0
    runs: int = 0
    different: int = 0


def series(kills: int, seed: int, folder: Path, overrides: tuple[str, ...] = RUN) -> Toll:
    """Kill so many processes at random instants of runs in ``folder``.

    Raises:
        RuntimeError: If a resumed run fails.
    """
    torch.set_num_threads(1)
    chance, toll = random.Random(seed), Toll()  # noqa: S311 - instants, not secrets
    unbroken = folder / "unbroken"
    begun = time.monotonic()
    if _finish(_start([*overrides, f"hydra.run.dir={unbroken}"])):
        raise RuntimeError("the unbroken run failed")
    length = time.monotonic() - begun
    while toll.kills < kills:
        toll.runs += 1
        path = folder / f"run-{toll.runs}-{toll.early}"
        argv = [*overrides, f"hydra.run.dir={path}"]
        while True:
            process = _start(argv)
            # Not after the last kill: that run is to be finished.
            process.join(chance.uniform(0, length) if toll.kills < kills else None)
            if process.exitcode is not None:
                break
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            toll.kills += 1
            if _finished(path):  # killed between the last file and the process's end
                break
            if (path / "config.yaml").exists():
                argv = [f"resume={path}"]
            else:
                toll.early += 1
                path = folder / f"run-{toll.runs}-{toll.early}"
                argv = [*overrides, f"hydra.run.dir={path}"]
        if process.exitcode and not _finished(path):
            raise RuntimeError(f"exit code {process.exitcode} of fedfuse {' '.join(argv)}")
        same = all((path / f).read_bytes() == (unbroken / f).read_bytes() for f in FILES)
        toll.different += not same
    return toll


def _finished(path: Path) -> bool:
    record = path / "run.json"
    try:
        return bool(json.loads(record.read_text())["status"] == "finished")
    except (OSError, ValueError):  # killed before the first of its files was written
        return False


def _start(argv: list[str]) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_child, args=(argv,))
    process.start()
    return process


def _child(argv: list[str]) -> None:
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = nowhere
        sys.exit(main(argv))


def _finish(process: multiprocessing.process.BaseProcess) -> int:
    process.join()
    return process.exitcode or 0


def command() -> int:
    """Run the series that the command line asks for and print its toll."""
    given = [int(word) for word in sys.argv[1:3]]
    kills, seed = (*given, *(200, 0)[len(given) :])
    with tempfile.TemporaryDirectory(prefix="fedfuse-kills-") as folder:
        begun = time.monotonic()
        toll = series(kills, seed, Path(folder))
        spent = time.monotonic() - begun
    print(
        f"{toll.kills} kills ({toll.early} before a run had begun), {toll.runs} runs finished, "
        f"{toll.different} of them with other metrics than the unbroken run; {spent:.0f} s"
    )
    return 1 if toll.different else 0


if __name__ == "__main__":
    sys.exit(command())
