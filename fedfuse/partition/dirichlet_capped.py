"""Dirichlet label skew, convention (ii): as (i), but a full client gets no further class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedfuse.partition.deal import deal, round_shares
from fedfuse.partition.repair import repaired
from fedfuse.partition.request import check_request, class_ids
from fedfuse.partition.simplex import log_dirichlet
from fedfuse.types import IntArray
from fedfuse.validation import require_count, require_number


def capped_counts(
    class_sizes: IntArray, num_clients: int, alpha: float, rng: np.random.Generator
) -> IntArray:
    """Return counts [K, C], class by class, leaving out clients that have N / K samples.

    The shares of the clients still open are rescaled in log space, so they never all vanish; and
    while a class is left, fewer than N samples are dealt, so some client is open.
    """
    logs = log_dirichlet(alpha, len(class_sizes), num_clients, rng)
    full = class_sizes.sum() / num_clients
    counts = np.zeros((num_clients, len(class_sizes)), dtype=np.int64)
    sizes = np.zeros(num_clients, dtype=np.int64)
    for c, class_size in enumerate(class_sizes):
        open_ = np.flatnonzero(sizes < full)
        shares = np.exp(logs[c, open_] - logs[c, open_].max())
        counts[open_, c] = round_shares(shares, int(class_size))
        sizes += counts[:, c]
    return counts


@dataclass(frozen=True, slots=True)
class DirichletCapped:
    """Split each class by Dirichlet(alpha) over the clients that hold fewer than N / K samples.

    The convention of PFLlib and HtFLlib ('dir') and of Flower's ``self_balancing``. Classes are
    dealt in ascending order, so later ones meet fewer open clients and are split more sparsely
    than alpha suggests; a client passes N / K with its last class, so sizes are nearer to equal
    but not equal.

    Args:
        alpha: Concentration, above 0: small is skewed.
        min_samples: Least number of samples per client, ensured by moving samples.

    >>> labels = np.repeat(np.arange(10), 100)
    >>> parts = DirichletCapped(alpha=0.5)(labels, 5, np.random.default_rng(0))
    >>> sum(len(part) for part in parts)
    1000
    """

    alpha: float = 0.5
    min_samples: int = 40

    def __post_init__(self) -> None:
        require_number("dirichlet_capped", "alpha", self.alpha, above=0)
        require_count("dirichlet_capped", "min_samples", self.min_samples)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        check_request("dirichlet_capped", labels, num_clients, self.min_samples)
        classes, class_sizes = class_ids(labels)
        counts = capped_counts(class_sizes, num_clients, self.alpha, rng)
        return deal(classes, repaired("dirichlet_capped", counts, self.min_samples, rng), rng)
