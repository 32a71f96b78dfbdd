"""Whole runs, each in processes of its own, that take their rounds in turns.

Cores of a shared machine change their speed by half within minutes, so runs that follow one another
cannot be compared. Here one round of each follows one round of the other.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from experiments.benchmarks.family import cpu_seconds, family
from experiments.benchmarks.whole import perform, write
from fedfuse.types import RoundRecord
from server.reporters.in_memory import InMemory

DONE = "round done"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn took: wall seconds, and processor seconds of all its processes together."""

    wall: float
    cpu: float


class Waiting(InMemory):
    """Say that a round is done and wait until the next is wanted."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Wait for a line; the end of the input ends the run."""
        super().round_done(arm, record)
        sys.stdout.write(f"{DONE}\n")
        sys.stdout.flush()
        if not sys.stdin.readline():
            raise KeyboardInterrupt


def in_rounds(
    runs: Mapping[str, DictConfig], sides: Mapping[str, Sequence[str]], turns: int
) -> dict[str, list[Turn]]:
    """Let each side take its turns; return what each took.

    Args:
        runs: By name; each needs as many rounds as there are turns of sides that it takes part in,
            and two more.
        sides: By name; the runs that take a round of theirs at the same time.
        turns: How many turns of each side count, after one that does not.
    """
    taken: dict[str, list[Turn]] = {name: [] for name in sides}
    with ExitStack() as stack:
        started = {name: stack.enter_context(gated(cfg)) for name, cfg in runs.items()}
        for turn in range(1 + turns):
            for name in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
                took = together([started[run] for run in sides[name]])
                if turn:
                    taken[name].append(took)
    return taken


class Gated:
    """One run that takes a round when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.await_round()

    def go(self) -> None:
        """Let it take a round."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def await_round(self) -> None:
        """Wait until it has taken it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == DONE:
                return
        raise RuntimeError(f"the run ended with exit code {self.process.wait()}")


def together(runs: Sequence[Gated]) -> Turn:
    """Let runs take a round at the same time."""
    pids = [pid for run in runs for pid in family(run.process.pid)]
    spent, begun = cpu_seconds(pids), time.perf_counter()
    for run in runs:
        run.go()
    for run in runs:
        run.await_round()
    wall = time.perf_counter() - begun
    return Turn(wall, cpu_seconds(pids) - spent)


@contextmanager
def gated(cfg: DictConfig) -> Iterator[Gated]:
    """Start a run, let it take its first round, and end it at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", __name__, *write(cfg, scratch)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        with subprocess.Popen(command, text=True, **pipes) as process:  # noqa: S603
            yield Gated(process)
            assert process.stdin is not None
            process.stdin.close()  # which ends it
            assert process.stdout is not None
            process.stdout.read()


def child(config: str, folder: str) -> None:
    """Run one configuration round by round: the child of :func:`gated`."""
    with suppress(KeyboardInterrupt):
        perform(config, folder, Waiting())


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2])
