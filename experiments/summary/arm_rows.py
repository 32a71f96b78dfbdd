"""The metric rows of one arm of a run, found by metric, round and client."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from fedfuse.types import MetricRow, Phase
from fedfuse.wire.messages import ALL_SPENT

TESTS = ("accuracy_own", "accuracy_global")
"""The two test protocols: each client's own distribution, and the balanced test set."""

FEDERATION = -1
"""The ``client_id`` of rows about the whole federation."""


class ArmRows:
    """The rows of one arm.

    Args:
        rows: All of them, in any order.
        left_out: Clients that do not count, because they attack.
    """

    def __init__(self, rows: Iterable[MetricRow], left_out: frozenset[int]) -> None:
        self._clients: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
        self._federation: dict[str, dict[int, float]] = {}
        for row in rows:
            if row.client_id == FEDERATION:
                self._federation.setdefault(row.metric, {})[row.round] = row.value
            elif math.isfinite(row.value) and row.client_id not in left_out:
                by_round = self._clients.setdefault((row.phase, row.metric), {})
                by_round.setdefault(row.round, {})[row.client_id] = row.value

    def at(self, metric: str, round_: int | None, phase: str = Phase.FUSED) -> dict[int, float]:
        """Return the clients' values of a metric at a round."""
        return self._clients.get((phase, metric), {}).get(round_, {}) if round_ else {}

    def unguarded(self) -> ArmRows:
        """Return the same arm as it would be had no guard gone back from what was learned."""
        other = ArmRows((), frozenset())
        other._clients = {
            (phase, metric.removesuffix("_unguarded")): by_round
            for (phase, metric), by_round in self._clients.items()
            if metric.endswith("_unguarded")
        }
        return other

    def names(self, phase: str) -> list[str]:
        """Return the metrics that clients have in a phase, in alphabetical order."""
        return sorted(metric for at, metric in self._clients if at == phase)

    def rounds(self, metric: str, phase: str = Phase.FUSED) -> set[int]:
        """Return the rounds after which clients have the metric."""
        return set(self._clients.get((phase, metric), {}))

    def last_round(self) -> int | None:
        """Return the last round with a test accuracy."""
        rounds = [r for name in TESTS for r in self._clients.get((Phase.FUSED, name), {})]
        return max(rounds, default=None)

    def best_round(self) -> int | None:
        """Return the round of the highest mean validation accuracy; the earliest of equals."""
        by_round = self._clients.get((Phase.FUSED, "accuracy_val"), {})
        tested = {r for name in TESTS for r in self._clients.get((Phase.FUSED, name), {})}
        means = {r: float(np.mean(list(v.values()))) for r, v in by_round.items() if r in tested}
        return min(means, key=lambda r: (-means[r], r), default=None)

    def spent(self) -> dict[str, dict[int, float]]:
        """Return, per metric of what is spent, each client's sum over all rounds."""
        sums: dict[str, dict[int, float]] = {name: {} for name in ALL_SPENT}
        for name, total in sums.items():
            for values in self._clients.get((Phase.SPENT, name), {}).values():
                for client, value in values.items():
                    total[client] = total.get(client, 0.0) + value
        return sums

    def last_fusion(self, metric: str) -> float | None:
        """Return the mean of a fusion metric at the last round that fused."""
        by_round = self._clients.get((Phase.FUSE, metric), {})
        return float(np.mean(list(by_round[max(by_round)].values()))) if by_round else None

    def of_federation(self, metric: str) -> float | None:
        """Return the last value of a metric of the federation."""
        by_round = self.by_round(metric)
        return by_round[max(by_round)] if by_round else None

    def by_round(self, metric: str) -> dict[int, float]:
        """Return the values of a metric of the federation."""
        return self._federation.get(metric, {})

    def total(self, metric: str) -> int:
        """Return the sum over the rounds of a metric of the federation."""
        return int(sum(self.by_round(metric).values()))
