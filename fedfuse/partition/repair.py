"""Give every client its least number of samples by moving them, instead of drawing again.

Drawing until it fits may never end (small alpha, many clients). A repair always does, and says
how much it changed.
"""

from __future__ import annotations

import warnings

import numpy as np

from fedfuse.partition.deal import fill_evenly
from fedfuse.types import IntArray


class RepairWarning(UserWarning):
    """A partition was changed so that every client has ``min_samples`` samples.

    Args:
        owner: The partitioner.
        moved: How many samples changed their client.
        clients: How many clients had too few.
        min_samples: What each client has now at least.
    """

    def __init__(self, owner: str, moved: int, clients: int, min_samples: int) -> None:
        super().__init__(owner, moved, clients, min_samples)
        self.owner = owner
        self.moved = moved
        self.clients = clients
        self.min_samples = min_samples

    def __str__(self) -> str:
        return (
            f"{self.owner} left {self.clients} clients with fewer than {self.min_samples} samples; "
            f"moved {self.moved} samples to them from the largest clients."
        )


def repair(
    counts: IntArray, min_samples: int, rng: np.random.Generator
) -> tuple[IntArray, int, int]:
    """Return counts [K, C] whose rows sum to ``min_samples`` or more, and what that took.

    The largest clients give, down to a common level; what a client gives has its own mixture of
    classes (drawn without replacement), and a receiver is filled from as few givers as possible,
    so both stay as skewed as they were. Class totals do not change.

    Args:
        counts: int64 [K, C], summing to at least K * ``min_samples``; not changed.
        min_samples: The least row sum.
        rng: Decides which classes are given.

    Returns:
        The new counts, the number of samples moved, the number of clients that received.

    >>> repair(np.array([[9, 0], [0, 0]]), 2, np.random.default_rng(0))
    (array([[7, 0],
           [2, 0]]), 2, 1)
    """
    sizes = counts.sum(axis=1)
    need = np.maximum(min_samples - sizes, 0)
    moved = int(need.sum())
    if moved == 0:
        return counts, 0, 0
    rich = np.where(sizes > min_samples, sizes, 0)
    give = rich - fill_evenly(rich, int(rich.sum()) - moved)
    givers = iter(np.argsort(-give, kind="stable"))
    repaired, giver, left = counts.copy(), 0, 0
    for receiver in np.flatnonzero(need):
        while need[receiver]:
            if left == 0:
                giver = int(next(givers))
                left = int(give[giver])
            amount = min(left, int(need[receiver]))
            gift = rng.multivariate_hypergeometric(repaired[giver], amount, method="marginals")
            repaired[giver] -= gift
            repaired[receiver] += gift
            left -= amount
            need[receiver] -= amount
    return repaired, moved, int((sizes < min_samples).sum())


def repaired(owner: str, counts: IntArray, min_samples: int, rng: np.random.Generator) -> IntArray:
    """Return :func:`repair`'s counts and warn with the numbers if anything had to move."""
    fixed, moved, clients = repair(counts, min_samples, rng)
    if moved:
        warnings.warn(RepairWarning(owner, moved, clients, min_samples), stacklevel=3)
    return fixed
