"""K8: how far clients drift apart while they train alone, and what bringing them together mends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.claims.shared import Array, Row, federation, mean_of, read
from experiments.results import Arm

DISAGREEMENT = "pairwise_disagreement@fuse"


def sawtooth(arm: Arm, metric: str = "accuracy_global") -> tuple[Array, Array]:
    """Return what a round's local training and what its fusion do to a metric, [K] each.

    Means over the rounds that fused and were tested before and after. Local training: from the end
    of the round before to its own end. Fusion: from there to the end of the round.
    """
    local, fused = arm.at(metric, "local"), arm.at(metric)
    told = arm.federation.get("bytes_up@fuse")
    if local is None or fused is None or told is None:
        return np.full(1, np.nan), np.full(1, np.nan)
    rounds = np.flatnonzero(np.nan_to_num(told) > 0)
    rounds = rounds[rounds > 0]
    alone, together = local[rounds] - fused[rounds - 1], fused[rounds] - local[rounds]
    both = np.isfinite(alone) & np.isfinite(together)
    counted = np.maximum(both.sum(axis=0), 1)
    return tuple(  # type: ignore[return-value]
        np.where(both.any(axis=0), np.where(both, part, 0).sum(axis=0) / counted, np.nan)
        for part in (alone, together)
    )


def drift(*folders: Path) -> Iterator[Row]:
    """Yield disagreement on the public set, and both sides of the saw-tooth, per method."""
    yield (
        *("federation", "method", "pairs of clients that disagree on the public set, %: first"),
        *("last fusion", "balanced test set, points a round: local training", "fusion"),
    )
    for run_group in read(*folders):
        for name, runs in run_group.methods.items():
            teeth = [sawtooth(run.arm) for run in runs]
            apart = [
                values[np.isfinite(values)]
                for run in runs
                if (values := run.arm.federation.get(DISAGREEMENT)) is not None
            ]
            yield (
                *(federation(run_group), name),
                *(mean_of([row[[end]] for row in apart if len(row)], sign="") for end in (0, -1)),
                *(mean_of([pair[part] for pair in teeth]) for part in (0, 1)),
            )
