"""Equal random shares: no client differs from another but by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedfuse.partition.deal import deal_sizes, even_sizes
from fedfuse.partition.request import check_request
from fedfuse.types import IntArray


def deal_iid(
    owner: str, labels: IntArray, num_clients: int, rng: np.random.Generator
) -> list[IntArray]:
    """Return K random parts of all samples; ``owner`` is who an error names."""
    check_request(owner, labels, num_clients)
    return deal_sizes(even_sizes(len(labels), num_clients), len(labels), rng)


@dataclass(frozen=True, slots=True)
class Iid:
    """Deal all samples out at random, in sizes that differ by at most one.

    >>> parts = Iid()(np.array([0, 0, 1, 1, 1]), 2, np.random.default_rng(0))
    >>> [len(part) for part in parts]
    [3, 2]
    """

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        return deal_iid("iid", labels, num_clients, rng)
