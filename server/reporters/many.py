"""Tell several reporters at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fedfuse.types import RoundRecord
from server.reporters.protocol import Reporter, RunInfo, TakesModels, WatchesSilence, WatchesSteps


@dataclass(frozen=True, slots=True)
class Many:
    """A reporter that passes every call on, in order."""

    reporters: Sequence[Reporter]

    def start(self, info: RunInfo) -> None:
        """Begin the run for each."""
        for reporter in self.reporters:
            reporter.start(info)

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Begin the phase for each."""
        for reporter in self.reporters:
            reporter.phase(arm, round_, phase)

    def client_done(self, client_id: int) -> None:
        """Count the client for each."""
        for reporter in self.reporters:
            reporter.client_done(client_id)

    def waiting(self, client_ids: Sequence[int], seconds: float) -> None:
        """Tell those that want to know."""
        for reporter in self.reporters:
            if isinstance(reporter, WatchesSilence):
                reporter.waiting(client_ids, seconds)

    def step(self, done: int, total: int) -> None:
        """Tell those that want to know."""
        for reporter in self.reporters:
            if isinstance(reporter, WatchesSteps):
                reporter.step(done, total)

    def client_models(self, about: Mapping[str, Any], content: bytes) -> None:
        """Pass them to those that want them."""
        for reporter in self.reporters:
            if isinstance(reporter, TakesModels):
                reporter.client_models(about, content)

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Hand the record to each."""
        for reporter in self.reporters:
            reporter.round_done(arm, record)

    def close(self) -> None:
        """Close each, last first, even if another one fails at it."""
        with ExitStack() as stack:
            for reporter in self.reporters:
                stack.callback(reporter.close)
