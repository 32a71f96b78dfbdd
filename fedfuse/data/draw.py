"""Draw samples class by class: how many of each, and which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedfuse.types import IntArray


def apportion(
    shares: npt.ArrayLike, total: int, supply: npt.ArrayLike, rng: np.random.Generator
) -> IntArray:
    """Return integers [C] that add up to ``total``, as near to the shares as the supply allows.

    The method of largest remainders, ties broken at random. Where a class runs short, its lack is
    spread over the others in proportion to their shares (evenly, once only classes of share zero
    are left).

    Args:
        shares: Non-negative weights [C], in any unit.
        total: What to hand out, at most ``sum(supply)``.
        supply: Upper limits [C].
        rng: Breaks ties.

    >>> rng = np.random.default_rng(0)
    >>> apportion([5, 3, 2], total=8, supply=[9, 9, 9], rng=rng).tolist()
    [4, 2, 2]
    >>> apportion([1, 1, 1], total=9, supply=[1, 9, 9], rng=rng).tolist()
    [1, 4, 4]
    """
    rows = [np.asarray(side)[None] for side in (shares, supply)]
    found = apportion_rows(*rows, totals=np.array([total]), noise=rng.random(rows[0].shape))
    return np.asarray(found[0])


def apportion_rows(
    shares: npt.ArrayLike,
    supply: npt.ArrayLike,
    *,
    totals: IntArray,
    noise: npt.NDArray[np.float64],
) -> IntArray:
    """Return :func:`apportion` of many totals at once, [K, C].

    Args:
        shares: Non-negative weights [K, C].
        supply: Upper limits [K, C].
        totals: What to hand out [K].
        noise: Random numbers [K, C], which break ties.
    """
    weights = np.asarray(shares, dtype=np.float64)
    limits = np.asarray(supply, dtype=np.int64)
    target = np.zeros(weights.shape)
    open_ = limits > 0
    # Fill in proportion; whoever reaches its limit leaves, and its lack goes round again.
    going = np.arange(len(weights))
    while len(going):
        free, most = open_[going], limits[going]
        left = totals[going] - np.where(free, 0.0, target[going]).sum(axis=1)
        still = (left > 0) & free.any(axis=1)
        going, free, most, left = going[still], free[still], most[still], left[still]
        active = np.where(free, weights[going], 0.0)
        nothing = active.sum(axis=1) == 0
        active[nothing] = free[nothing]
        filled = left[:, None] * active / active.sum(axis=1)[:, None]
        short = free & (filled >= most)
        target[going] = np.where(short, most, np.where(free, filled, target[going]))
        open_[going] &= ~short
        going = going[short.any(axis=1)]
    counts = np.minimum(np.floor(target + 1e-9).astype(np.int64), limits)
    remainder = np.where(counts < limits, target - counts, -1.0)
    # Rounding the remainders makes equal ones equal in spite of floating point.
    order = np.lexsort((noise, -remainder.round(9)))
    ranks = np.argsort(order, axis=1)
    return np.asarray(counts + (ranks < (totals - counts.sum(axis=1))[:, None]))


def draw_by_class(
    labels: IntArray, index: IntArray, counts: IntArray, rng: np.random.Generator
) -> IntArray:
    """Return sorted members of ``index``, ``counts[c]`` of each class, without replacement.

    Args:
        labels: Labels of the whole pool [N].
        index: Rows of the pool to draw from.
        counts: How many of each class [C]; each at most what ``index`` holds.
        rng: Chooses them.

    >>> labels = np.array([0, 0, 1, 1])
    >>> draw_by_class(labels, np.array([1, 2, 3]), np.array([1, 2]), np.random.default_rng(0))
    array([1, 2, 3])
    """
    return draw_each(by_class(labels, index, len(counts)), counts, rng)


def by_class(labels: IntArray, index: IntArray, num_classes: int) -> list[IntArray]:
    """Return the members of ``index`` of each class, in their order.

    >>> by_class(np.array([0, 1, 0]), np.array([2, 1, 0]), 2)
    [array([2, 0]), array([1])]
    """
    of_index = labels[index]
    ends = np.cumsum(np.bincount(of_index, minlength=num_classes))[:num_classes]
    return np.split(index[np.argsort(of_index, kind="stable")], ends)[:num_classes]


def without(rows: IntArray, others: IntArray) -> IntArray:
    """Return the rows that are not among others, in their order.

    Faster than NumPy's set operations, which sort or hash millions of rows.

    >>> without(np.array([4, 1, 3]), np.array([3, 9])).tolist()
    [4, 1]
    """
    gone = np.zeros(int(max(rows.max(initial=-1), others.max(initial=-1))) + 1, dtype=np.bool_)
    gone[others] = True
    return np.asarray(rows[~gone[rows]])


def draw_each(pools: Sequence[IntArray], counts: IntArray, rng: np.random.Generator) -> IntArray:
    """Return sorted members of pools, ``counts[c]`` of the c-th, without replacement."""
    drawn = [
        pool[rng.choice(len(pool), size=count, replace=False)]
        for pool, count in zip(pools, counts.tolist(), strict=True)
        if count
    ]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *drawn]))
