"""Plain lines, one per round of all runs together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic
from typing import TextIO

from fedfuse.safe_text import visible
from fedfuse.types import RoundRecord
from server.reporters.figures import clock, mean, percent
from server.reporters.protocol import RunInfo

TESTS = ("own", "global")


class Screen:
    """Print how far a pack is.

    Runs are in step, so a line is complete when the next round's first record comes.

    Args:
        stream: Where to; standard output if None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._begun = monotonic()
        self._round: tuple[str, int, int] | None = None
        self._found: list[RoundRecord] = []

    def take(self, arm: str, num_rounds: int, record: RoundRecord) -> None:
        """Take a run's round; ``arm`` is what to call its arm."""
        now = (arm, record.round, num_rounds)
        if now != self._round:
            self.flush()
            self._round = now
        self._found.append(record)

    def flush(self) -> None:
        """Print the round that is complete now."""
        if self._round is None:
            return
        arm, round_, rounds = self._round
        runs = len(self._found)
        line = f"{arm:<7}  round {round_:>{len(str(rounds))}}/{rounds}"
        line += f"  {runs} run{'s' if runs > 1 else ' '}"
        for test in TESTS:
            means = [mean(record, f"accuracy_{test}") for record in self._found]
            seen = [value for value in means if value is not None]
            if seen:
                line += f"  {test} {percent(min(seen))} to {percent(max(seen))}"
        self._round, self._found = None, []
        self.say(f"{line}  {clock(monotonic() - self._begun)}")

    def say(self, line: str) -> None:
        """Print a line."""
        stream = self._stream or sys.stdout
        stream.write(f"{visible(line, None, lines=True)}\n")
        stream.flush()


class Watcher:
    """The reporter that tells the screen of one run.

    Args:
        screen: The screen.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._info: RunInfo | None = None
        self._works = False

    def start(self, info: RunInfo) -> None:
        """Remember which arms there are."""
        self._info = info

    def phase(self, arm: str, round_: int, phase: str) -> None:  # noqa: ARG002
        """Note that the round is the run's own work, and no shared baseline's."""
        self._works = True

    def client_done(self, client_id: int) -> None:
        """Print nothing."""

    def waiting(self, client_ids: Sequence[int], seconds: float) -> None:
        """Print nothing: nobody is elsewhere."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Hand the round to the screen."""
        assert self._info is not None, "start comes first"
        if not self._works:
            return
        title = "methods" if arm == self._info.arms[-1] else arm
        self._screen.take(title, self._info.num_rounds, record)

    def close(self) -> None:
        """Hold nothing."""
