"""Draw without replacement for many clients at once: the numbers that NumPy draws for each.

``Generator.choice(size, count, replace=False)`` takes some twenty microseconds, whatever it draws,
and every client draws twice from every class: five of the fourteen seconds that 20,000 clients
took to begin. Here a client's bounds go into one call, and the rest of Floyd's algorithm, which is
what NumPy runs (Bentley and Floyd 1987, https://doi.org/10.1145/30401.315746), is done for all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedfuse.types import IntArray


def choose(sizes: IntArray, counts: IntArray, rngs: Sequence[np.random.Generator]) -> IntArray:
    """Return what every generator draws from its pools, in their order.

    Args:
        sizes: Of the pools of each generator [K, G].
        counts: How many to draw from each [K, G], at most as many as it has.
        rngs: K generators.

    Returns:
        ``rng.choice(size, size=count, replace=False)`` of all pools, one after the other, apart
        from the order of those that come from the same pool.

    >>> drawn = choose(np.array([[9, 5]]), np.array([[2, 3]]), [np.random.default_rng(0)])
    >>> rng = np.random.default_rng(0)
    >>> [sorted(part.tolist()) for part in (drawn[:2], drawn[2:])]
    [[5, 6], [0, 1, 4]]
    >>> [sorted(rng.choice(n, k, replace=False).tolist()) for n, k in ((9, 2), (5, 3))]
    [[5, 6], [0, 1, 4]]
    """
    # From a large pool NumPy draws many by shuffling its end.
    shuffles = ((sizes > 10_000) & (counts > sizes // 50)).any(axis=1)
    drawn = np.empty(int(counts.sum()), dtype=np.int64)
    ours = np.repeat(~shuffles, counts.sum(axis=1))
    plain = [rngs[row] for row in np.flatnonzero(~shuffles).tolist()]
    drawn[ours] = _floyd(sizes[~shuffles], counts[~shuffles], plain)
    parts = [
        rngs[row].choice(size, size=count, replace=False)
        for row in np.flatnonzero(shuffles).tolist()
        for size, count in zip(sizes[row].tolist(), counts[row].tolist(), strict=True)
        if count
    ]
    if parts:
        drawn[~ours] = np.concatenate(parts)
    return drawn


def _floyd(sizes: IntArray, counts: IntArray, rngs: Sequence[np.random.Generator]) -> IntArray:
    """Return the draws; step i of n from a pool of s takes one up to s - n + i, or that itself."""
    size, count = sizes.ravel(), counts.ravel()
    # NumPy puts the n into random order afterwards: that is of no use here, but draws n - 1 more.
    lengths = np.maximum(2 * count - 1, 0)
    pool = np.repeat(np.arange(len(size)), lengths)
    step = np.arange(len(pool)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    draws = step < count[pool]
    bounds = np.where(draws, size[pool] - count[pool] + step, 2 * count[pool] - 1 - step)
    numbers = np.empty(len(bounds), dtype=np.int64)
    ends = np.cumsum(lengths.reshape(sizes.shape).sum(axis=1)).tolist()
    for rng, first, end in zip(rngs, [0, *ends], ends, strict=False):
        if end > first:
            numbers[first:end] = rng.integers(0, bounds[first:end], endpoint=True)
    pool, step, value, own = pool[draws], step[draws], numbers[draws], bounds[draws]
    again = _taken(pool, step, value, size[pool] - count[pool], np.cumsum(count) - count)
    return np.asarray(np.where(again, own, value))


def _taken(
    pool: IntArray, step: IntArray, value: IntArray, least: IntArray, begins: IntArray
) -> npt.NDArray[np.bool_]:
    """Return which values were taken from their pool before, bool [N].

    Args:
        pool: Which pool each is from [N].
        step: Its place among those of the pool [N].
        value: What was drawn [N].
        least: What the pool's first step may take itself [N].
        begins: Where each pool's values begin [G].
    """
    again = np.zeros(len(pool), dtype=np.bool_)
    if not len(pool):
        return again
    # Equal values of a pool, in the order in which they were drawn.
    wide, high = int(step.max()) + 1, int(value.max()) + 1
    order = np.sort((pool * high + value) * wide + step)
    later = order[1:][order[1:] // wide == order[:-1] // wide]
    again[begins[later // wide // high] + later % wide] = True
    # A value that an earlier step took itself, because what it had drawn was taken.
    since = value - least
    earlier = (since >= 0) & (since < step)
    where = begins[pool] + np.where(earlier, since, 0)
    while (more := earlier & again[where] & ~again).any():
        again |= more
    return again
