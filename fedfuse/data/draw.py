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
    weights = np.asarray(shares, dtype=np.float64)
    limits = np.asarray(supply, dtype=np.int64)
    target = np.zeros(len(weights))
    open_ = limits > 0
    # Fill in proportion; whoever reaches its limit leaves, and its lack goes round again.
    while (left := total - target[~open_].sum()) > 0 and open_.any():
        active = np.where(open_, weights, 0.0)
        if active.sum() == 0:
            active = open_.astype(np.float64)
        filled = left * active / active.sum()
        short = open_ & (filled >= limits)
        target = np.where(short, limits, np.where(open_, filled, target))
        if not short.any():
            break
        open_ &= ~short
    counts = np.minimum(np.floor(target + 1e-9).astype(np.int64), limits)
    remainder = np.where(counts < limits, target - counts, -1.0)
    # Rounding the remainders makes equal ones equal in spite of floating point.
    order = np.lexsort((rng.random(len(weights)), -remainder.round(9)))
    counts[order[: total - int(counts.sum())]] += 1
    return counts


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


def draw_each(pools: Sequence[IntArray], counts: IntArray, rng: np.random.Generator) -> IntArray:
    """Return sorted members of pools, ``counts[c]`` of the c-th, without replacement."""
    drawn = [
        pool[rng.choice(len(pool), size=count, replace=False)]
        for pool, count in zip(pools, counts.tolist(), strict=True)
        if count
    ]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *drawn]))
