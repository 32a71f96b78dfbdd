"""Quantity skew: clients differ in how much they have, not in what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedfuse.partition.deal import deal_sizes, round_shares
from fedfuse.partition.repair import repaired
from fedfuse.partition.request import check_request
from fedfuse.types import IntArray
from fedfuse.validation import require_count, require_number


def _deal_by_weight(
    owner: str,
    weights: npt.NDArray[np.float64],
    num_samples: int,
    min_samples: int,
    rng: np.random.Generator,
) -> list[IntArray]:
    """Return random parts with sizes in proportion to ``weights`` [K], none too small."""
    sizes = repaired(owner, round_shares(weights, num_samples)[:, None], min_samples, rng)
    return deal_sizes(sizes[:, 0], num_samples, rng)


@dataclass(frozen=True, slots=True)
class QuantityLogNormal:
    """Draw client sizes from a log-normal distribution; labels stay iid.

    Args:
        sigma: Standard deviation of the logarithm of the size, 0 (equal sizes) to 100.
        min_samples: Least number of samples per client, ensured by moving samples.

    >>> partitioner = QuantityLogNormal(sigma=1.0)
    >>> parts = partitioner(np.zeros(1000, int), 4, np.random.default_rng(0))
    >>> sum(len(part) for part in parts)
    1000
    """

    sigma: float = 1.0
    min_samples: int = 40

    def __post_init__(self) -> None:
        require_number("quantity_lognormal", "sigma", self.sigma, at_least=0, at_most=100)
        require_count("quantity_lognormal", "min_samples", self.min_samples)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        owner = "quantity_lognormal"
        check_request(owner, labels, num_clients, self.min_samples)
        logs = self.sigma * rng.standard_normal(num_clients)
        return _deal_by_weight(owner, np.exp(logs - logs.max()), len(labels), self.min_samples, rng)


@dataclass(frozen=True, slots=True)
class QuantityPowerLaw:
    """Give client k a size in proportion to (k + 1) ** -exponent; labels stay iid.

    Args:
        exponent: 0 (equal sizes) to 100; 1 is Zipf's law. Client 0 is the largest.
        min_samples: Least number of samples per client, ensured by moving samples.

    >>> partitioner = QuantityPowerLaw(exponent=1.0)
    >>> parts = partitioner(np.zeros(1100, int), 3, np.random.default_rng(0))
    >>> [len(part) for part in parts]
    [600, 300, 200]
    """

    exponent: float = 1.0
    min_samples: int = 40

    def __post_init__(self) -> None:
        require_number("quantity_powerlaw", "exponent", self.exponent, at_least=0, at_most=100)
        require_count("quantity_powerlaw", "min_samples", self.min_samples)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        owner = "quantity_powerlaw"
        check_request(owner, labels, num_clients, self.min_samples)
        weights = np.arange(1, num_clients + 1, dtype=np.float64) ** -self.exponent
        return _deal_by_weight(owner, weights, len(labels), self.min_samples, rng)
