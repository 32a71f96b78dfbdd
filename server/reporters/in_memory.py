"""A reporter that remembers a run, for the numbers that close it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from fedfuse.types import MetricRow, RoundRecord
from server.reporters.protocol import RunInfo


class InMemory:
    """Keep the records of every arm; ``records`` is keyed by arm."""

    def __init__(self) -> None:
        self.info: RunInfo | None = None
        self.records: dict[str, list[RoundRecord]] = {}

    def start(self, info: RunInfo) -> None:
        """Begin with nothing."""
        self.info = info
        self.records = {arm: [] for arm in info.arms}

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Remember nothing."""

    def client_done(self, client_id: int) -> None:
        """Remember nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Remember the round, without the server's model, which is the last one's business."""
        self.records[arm].append(replace(record, model=None))

    def rows(self, arm: str) -> list[MetricRow]:
        """Return all metric rows of an arm."""
        return [row for record in self.records[arm] for row in record.metrics]

    def right(self, arm: str) -> Mapping[str, Tensor]:
        """Return which test samples an arm's clients got right in its last round, if it told."""
        return (self.records[arm][-1].right if self.records[arm] else None) or {}

    def seconds(self, arm: str) -> dict[str, float]:
        """Return the wall time of an arm by phase, summed over its rounds."""
        total: dict[str, float] = {}
        for record in self.records[arm]:
            for phase, spent in record.seconds.items():
                total[phase] = total.get(phase, 0.0) + spent
        return total

    def close(self) -> None:
        """Hold on to everything."""
