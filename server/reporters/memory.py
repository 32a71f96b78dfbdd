"""A reporter that remembers a run, for the numbers that close it."""

from __future__ import annotations

from fedfuse.types import MetricRow, RoundRecord
from server.reporters.protocol import RunInfo


class Memory:
    """Keep the metric rows and the seconds of every arm.

    ``rows`` and ``seconds`` (summed over rounds, by phase) are keyed by arm.
    """

    def __init__(self) -> None:
        self.info: RunInfo | None = None
        self.rows: dict[str, list[MetricRow]] = {}
        self.seconds: dict[str, dict[str, float]] = {}

    def start(self, info: RunInfo) -> None:
        """Begin with nothing."""
        self.info = info
        self.rows = {arm: [] for arm in info.arms}
        self.seconds = {arm: {} for arm in info.arms}

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Remember nothing."""

    def client_done(self, client_id: int) -> None:
        """Remember nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Remember the round."""
        self.rows[arm] += record.metrics
        for phase, spent in record.seconds.items():
            self.seconds[arm][phase] = self.seconds[arm].get(phase, 0.0) + spent

    def close(self) -> None:
        """Hold on to everything."""
