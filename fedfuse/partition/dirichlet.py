"""Dirichlet label skew, convention (i): each class is split over the clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedfuse.partition.deal import deal, round_shares
from fedfuse.partition.repair import repaired
from fedfuse.partition.request import check_request, class_ids
from fedfuse.partition.simplex import log_dirichlet
from fedfuse.types import IntArray
from fedfuse.validation import require_count, require_number


def dirichlet_counts(
    class_sizes: IntArray, num_clients: int, alpha: float, rng: np.random.Generator
) -> IntArray:
    """Return counts [K, C]: each class [C] split by its own Dirichlet draw over K clients."""
    shares = np.exp(log_dirichlet(alpha, len(class_sizes), num_clients, rng))
    rows = [round_shares(row, int(n)) for row, n in zip(shares, class_sizes, strict=True)]
    return np.stack(rows, axis=1)


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """Split each class over the clients by Dirichlet(alpha); client sizes differ.

    The convention of Yurochkin et al. 2019 (https://arxiv.org/abs/1905.12022) as libraries apply
    it; numbers are not comparable with those of the other three conventions. Where others draw
    again until every client has enough, clients below ``min_samples`` are filled from the largest
    (:func:`fedfuse.partition.repair.repair`, reported as a ``RepairWarning``).

    Args:
        alpha: Concentration, above 0: small is skewed, 100 and more is nearly iid.
        min_samples: Least number of samples per client.

    >>> labels = np.repeat(np.arange(10), 100)
    >>> parts = Dirichlet(alpha=0.5)(labels, 5, np.random.default_rng(0))
    >>> sum(len(part) for part in parts), min(len(part) for part in parts) >= 10
    (1000, True)
    """

    alpha: float = 0.5
    min_samples: int = 40

    def __post_init__(self) -> None:
        require_number("dirichlet", "alpha", self.alpha, above=0)
        require_count("dirichlet", "min_samples", self.min_samples)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        check_request("dirichlet", labels, num_clients, self.min_samples)
        classes, class_sizes = class_ids(labels)
        counts = dirichlet_counts(class_sizes, num_clients, self.alpha, rng)
        return deal(classes, repaired("dirichlet", counts, self.min_samples, rng), rng)
