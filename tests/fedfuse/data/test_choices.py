"""Many clients' draws at once are those that NumPy makes for each of them."""

from __future__ import annotations

import numpy as np
import pytest

from fedfuse.data.choices import choose


def one_by_one(sizes, counts, rngs):
    return [
        sorted(rng.choice(size, size=count, replace=False).tolist())
        for row, many, rng in zip(sizes.tolist(), counts.tolist(), rngs, strict=True)
        for size, count in zip(row, many, strict=True)
        if count
    ]


@pytest.mark.parametrize("high", [3, 40, 12_000, 2**33])
def test_the_draws_of_each_generator(high):
    rng = np.random.default_rng(high)
    sizes = rng.integers(0, high, (60, 7), endpoint=True)
    # Few and many of small pools: values come again, and again in the place of others.
    counts = np.minimum(
        sizes, rng.integers(0, 300, sizes.shape) // rng.integers(1, 30, sizes.shape)
    )
    sides = [[np.random.default_rng(seed) for seed in range(60)] for _ in range(2)]
    drawn = choose(sizes, counts, sides[0])
    parts = np.split(drawn, np.cumsum(counts)[:-1])
    assert [sorted(part.tolist()) for part in parts if len(part)] == one_by_one(
        sizes, counts, sides[1]
    )
    after = [[generator.random() for generator in side] for side in sides]
    assert after[0] == after[1]


@pytest.mark.parametrize(("size", "count"), [(10_000, 201), (10_001, 200), (10_001, 201)])
def test_where_numpy_changes_its_way(size, count):
    sizes, counts = np.full((1, 2), size), np.full((1, 2), count)
    drawn = choose(sizes, counts, [np.random.default_rng(1)])
    parts = [sorted(part.tolist()) for part in np.split(drawn, 2)]
    assert parts == one_by_one(sizes, counts, [np.random.default_rng(1)])


def test_nothing_drawn_is_nothing():
    nothing = np.zeros((2, 3), dtype=np.int64)
    assert choose(nothing, nothing, [np.random.default_rng(i) for i in range(2)]).shape == (0,)
