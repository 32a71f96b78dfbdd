"""How a partition turned out: sizes, skew, distance between clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedfuse.errors import PartitionError
from fedfuse.types import IntArray


@dataclass(frozen=True, slots=True)
class PartitionStats:
    """What a run records about its partition.

    Args:
        counts: int64 [K, C], samples per client and class, no row all zero.
        repaired: How many samples were moved to reach ``min_samples``; None if not known.

    >>> stats = PartitionStats(np.array([[4, 0], [2, 2]]))
    >>> stats.sizes.tolist(), stats.effective_classes.tolist(), stats.mean_distance
    ([4, 4], [1.0, 2.0], 0.5)
    """

    counts: IntArray
    repaired: int | None = None

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or (self.counts.sum(axis=1) <= 0).any():
            raise PartitionError(
                "Partition statistics need counts [clients, classes] without an empty client",
                got=f"shape {list(self.counts.shape)}",
            )

    @property
    def sizes(self) -> IntArray:
        """Return the number of samples per client, [K]."""
        sizes: IntArray = self.counts.sum(axis=1)
        return sizes

    @property
    def entropy(self) -> npt.NDArray[np.float64]:
        """Return the entropy of each client's class distribution in nats, [K]."""
        shares = _shares(self.counts)
        logs = np.log(np.where(shares > 0, shares, 1.0))
        entropy: npt.NDArray[np.float64] = np.abs(np.sum(shares * logs, axis=1))
        return entropy

    @property
    def effective_classes(self) -> npt.NDArray[np.float64]:
        """Return exp(entropy), [K]: the number of equally frequent classes of the same entropy."""
        return np.exp(self.entropy)

    @property
    def mean_distance(self) -> float:
        """Return the total variation distance between class distributions, mean over pairs.

        0 for equal distributions, 1 for clients that share no class, 0 for a single client.
        """
        return mean_total_variation(_shares(self.counts))

    def summary(self) -> dict[str, float]:
        """Return the numbers worth printing and storing, by name."""
        numbers = {
            "num_clients": float(len(self.counts)),
            "num_samples": float(self.sizes.sum()),
            "size_min": float(self.sizes.min()),
            "size_mean": float(self.sizes.mean()),
            "size_max": float(self.sizes.max()),
            "effective_classes_mean": float(self.effective_classes.mean()),
            "mean_distance": self.mean_distance,
        }
        return numbers if self.repaired is None else numbers | {"repaired": float(self.repaired)}


def mean_total_variation(shares: npt.NDArray[np.float64]) -> float:
    """Return the mean of 0.5 * sum_c |p_ic - p_jc| over all pairs i < j of rows [K, C].

    Sorting each column gives the sum over pairs in O(K log K): the value at rank r is the larger
    one in r pairs and the smaller one in K - 1 - r.
    """
    num_clients = len(shares)
    if num_clients < 2:
        return 0.0
    signs = 2.0 * np.arange(num_clients) - (num_clients - 1)
    total = 0.5 * float(np.sum(signs[:, None] * np.sort(shares, axis=0)))
    # Rounding must not show equal clients a hair below 0.
    return max(0.0, total / (num_clients * (num_clients - 1) / 2))


def _shares(counts: IntArray) -> npt.NDArray[np.float64]:
    """Return class distributions: the rows of ``counts`` [K, C] divided by their sums."""
    shares: npt.NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares
