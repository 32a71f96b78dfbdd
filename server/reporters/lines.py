"""Plain lines, one per round: for pipes, logs and batch systems."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic
from typing import TextIO

from fedfuse.safe_text import visible
from fedfuse.types import RoundRecord
from server.reporters.figures import clock, mean, named, percent, points
from server.reporters.protocol import RunInfo

QUIET = 60.0
"""Seconds without a line after which a client at work is told of."""


class Lines:
    """A reporter that prints one line per round.

    Args:
        stream: Where to; standard output if None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._info: RunInfo | None = None
        self._means: dict[tuple[str, int], tuple[float | None, float | None]] = {}
        self._begun = self._spoke = 0.0
        self._phase = ""

    def start(self, info: RunInfo) -> None:
        """Print what will run and who holds what."""
        self._info = info
        self._begun = monotonic()
        self._print(headline(info))
        if info.preview:
            self._print(f"\n{info.preview}\n")

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Print nothing, but remember it."""
        self._phase = f"{arm} round {round_}, {phase}"

    def client_done(self, client_id: int) -> None:
        """Print nothing."""

    def step(self, done: int, total: int) -> None:
        """Print how far a client is, now and then while nothing else is printed."""
        if monotonic() - self._spoke > QUIET:
            self._print(
                f"{self._phase}: step {done} of {total} ({clock(monotonic() - self._begun)})"
            )

    def waiting(self, client_ids: Sequence[int], seconds: float) -> None:
        """Print who has not answered for unusually long."""
        self._print(f"{self._phase}: waiting for {named(client_ids)} ({clock(seconds)})")

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Print the round's mean accuracies in percent, and their gain in points."""
        assert self._info is not None, "start comes first"
        width = max(len(name) for name in self._info.arms)
        rounds = self._info.num_rounds
        line = f"{arm:<{width}}  round {record.round:>{len(str(rounds))}}/{rounds}"
        own, overall = (mean(record, f"accuracy_{test}") for test in ("own", "global"))
        if own is not None or overall is not None:
            line += f"  own {percent(own)}  balanced {percent(overall)}"
        self._means[arm, record.round] = (own, overall)
        for control in self._info.controls if arm == self._info.arms[-1] else ():
            before = self._means.get((control, record.round), (None, None))
            gains = [
                points(value - past)
                for value, past in zip((own, overall), before, strict=True)
                if value is not None and past is not None
            ]
            if len(gains) == 2:
                over = "gain" if control == self._info.controls[0] else f"over {control}"
                line += f"  {over} {gains[0]} {gains[1]}"
        self._print(f"{line}  {clock(monotonic() - self._begun)}")

    def close(self) -> None:
        """Hold nothing."""

    def _print(self, line: str) -> None:
        self._spoke = monotonic()
        stream = self._stream or sys.stdout
        stream.write(f"{visible(line, None, lines=True)}\n")
        stream.flush()


def headline(info: RunInfo) -> str:
    """Return the run in one line."""
    return (
        f"{info.method}{info.against}: {info.num_clients} clients, {info.num_rounds} rounds, "
        f"{info.dataset}, {info.partitioner}, {info.model}"
    )
