"""From numbers of samples to samples: round shares to counts, and deal counts out at random.

Most partitioners only decide a matrix of counts, clients by classes; what follows is the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedfuse.types import IntArray


def deal(classes: IntArray, counts: IntArray, rng: np.random.Generator) -> list[IntArray]:
    """Return K index arrays that hold ``counts[k, c]`` random samples of class c each.

    Args:
        classes: int64 [N], each sample's class, 0 to C-1.
        counts: int64 [K, C]; no column may sum to more than the class has. What is left of a
            class stays unused.
        rng: Decides which of a class's samples go where, and the order within a client.

    >>> parts = deal(np.array([0, 1, 0, 1]), np.array([[1, 1], [1, 0]]), np.random.default_rng(0))
    >>> [len(part) for part in parts]
    [2, 1]
    """
    num_clients = len(counts)
    shuffled = rng.permutation(len(classes))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    ends = np.cumsum(np.bincount(classes, minlength=counts.shape[1]))
    owner = np.full(len(classes), num_clients, dtype=np.int64)
    for column, end in zip(counts.T, ends, strict=True):
        dealt = np.repeat(np.arange(num_clients), column)
        owner[by_class[end - len(dealt) : end]] = dealt
    # A second, independent order, or each client's samples would lie class by class.
    shuffled = rng.permutation(len(classes))
    by_client = shuffled[np.argsort(owner[shuffled], kind="stable")]
    return np.split(by_client, np.cumsum(counts.sum(axis=1)))[:num_clients]


def deal_sizes(sizes: IntArray, num_samples: int, rng: np.random.Generator) -> list[IntArray]:
    """Return K disjoint random index arrays of the given ``sizes`` [K], whatever the labels."""
    return np.split(rng.permutation(num_samples), np.cumsum(sizes))[: len(sizes)]


def even_sizes(num_samples: int, num_clients: int) -> IntArray:
    """Return K sizes that sum to ``num_samples`` and differ by at most one.

    >>> even_sizes(8, 3)
    array([3, 3, 2])
    """
    base, extra = divmod(num_samples, num_clients)
    return base + (np.arange(num_clients) < extra).astype(np.int64)


def round_shares(shares: npt.NDArray[np.float64], total: int) -> IntArray:
    """Return integers [K] that follow ``shares`` [K] and sum to ``total`` exactly.

    The running sum is rounded, not each share, so no error piles up on one client.

    >>> round_shares(np.array([0.5, 0.25, 0.25]), 5)
    array([2, 2, 1])
    """
    bounds = np.rint(np.cumsum(shares) / np.sum(shares) * total).astype(np.int64)
    bounds[-1] = total
    return np.diff(np.minimum(bounds, total), prepend=0)


def fill_evenly(capacity: IntArray, total: int) -> IntArray:
    """Return integers [n] with the sum ``total``, as equal as ``capacity`` [n] allows.

    Args:
        capacity: Largest value at each place.
        total: The sum; at most ``capacity.sum()``.

    >>> fill_evenly(np.array([1, 9, 9]), 8)
    array([1, 4, 3])
    """
    low, high = 0, int(capacity.max(initial=0))
    while low < high:  # the highest level to which `total` fills every place
        middle = (low + high + 1) // 2
        if np.minimum(capacity, middle).sum() <= total:
            low = middle
        else:
            high = middle - 1
    filled = np.minimum(capacity, low)
    filled[np.flatnonzero(capacity > low)[: total - int(filled.sum())]] += 1
    return filled


def share_classes(class_sizes: IntArray, owns: npt.NDArray[np.bool_]) -> IntArray:
    """Return counts [K, C] that split every class evenly over the clients that own it.

    Args:
        class_sizes: int64 [C].
        owns: bool [K, C]; a class without an owner stays unused.

    What does not divide goes to the owners that have least so far, so that clients with the same
    classes end with the same number of samples, within one per class.

    >>> share_classes(np.array([3, 3]), np.array([[True, True], [True, True]]))
    array([[2, 1],
           [1, 2]])
    """
    counts = np.zeros(owns.shape, dtype=np.int64)
    sizes = np.zeros(len(owns), dtype=np.int64)
    for c, size in enumerate(class_sizes):
        owners = np.flatnonzero(owns[:, c])
        if len(owners) == 0:
            continue
        poorest_first = owners[np.argsort(sizes[owners], kind="stable")]
        counts[poorest_first, c] = even_sizes(int(size), len(owners))
        sizes += counts[:, c]
    return counts
