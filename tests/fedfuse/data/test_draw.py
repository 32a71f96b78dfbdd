import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.data.draw import apportion, apportion_rows, draw_by_class


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_apportion_is_exact_within_supply_and_near_the_shares(data):
    size = data.draw(st.integers(1, 12))
    supply = np.array(data.draw(st.lists(st.integers(0, 50), min_size=size, max_size=size)))
    shares = np.array(
        data.draw(st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=size, max_size=size))
    )
    total = data.draw(st.integers(0, int(supply.sum())))
    counts = apportion(shares, total, supply, np.random.default_rng(0))
    assert counts.sum() == total
    assert (counts >= 0).all()
    assert (counts <= supply).all()
    if shares.sum() > 0:
        quota = total * shares / shares.sum()
        if (quota <= supply).all():
            assert (np.abs(counts - quota) < 1 + 1e-6).all()


def test_largest_remainders_by_hand():
    rng = np.random.default_rng(0)
    # Quotas 3.5, 2.1, 1.4: floors 3, 2, 1 and the one left goes to the remainder 0.5.
    assert apportion([5, 3, 2], 7, [9, 9, 9], rng).tolist() == [4, 2, 1]
    # Class 0 has 2 of its 5; the lack of 3 is shared 3:2 by the others.
    assert apportion([5, 3, 2], 10, [2, 9, 9], rng).tolist() == [2, 5, 3]
    # Only a class without any share has something left.
    assert apportion([1, 0], 3, [1, 5], rng).tolist() == [1, 2]


def test_proportional_totals_are_exact():
    supply = np.array([120, 60, 20])
    for part in range(1, 201):
        counts = apportion(supply, part, supply, np.random.default_rng(part))
        assert (np.abs(counts - part * supply / 200) < 1).all()


def test_many_totals_at_once_are_what_each_is_alone():
    rng = np.random.default_rng(0)
    supply = rng.integers(0, 30, (300, 7))
    shares = np.where(rng.random((300, 7)) < 0.3, 0, rng.random((300, 7)))
    totals = rng.integers(0, supply.sum(axis=1) + 1)
    alone = [
        apportion(s, t, most, np.random.default_rng(seed))
        for seed, (s, t, most) in enumerate(zip(shares, totals, supply, strict=True))
    ]
    noise = np.stack([np.random.default_rng(seed).random(7) for seed in range(300)])
    together = apportion_rows(shares, supply, totals=totals, noise=noise)
    np.testing.assert_array_equal(together, alone)
    assert (together.sum(axis=1) == totals).all()


def test_ties_fall_to_every_class():
    winners = {
        int(apportion(np.ones(4), 1, np.ones(4), np.random.default_rng(s)).argmax())
        for s in range(60)
    }
    assert winners == {0, 1, 2, 3}


def test_drawing_takes_the_counts_from_the_index_only():
    labels = np.array([0, 1, 2] * 20)
    index = np.arange(0, 60, 2)
    drawn = draw_by_class(labels, index, np.array([3, 0, 5]), np.random.default_rng(0))
    assert np.isin(drawn, index).all()
    assert len(set(drawn.tolist())) == 8
    assert (np.diff(drawn) > 0).all()
    assert np.bincount(labels[drawn], minlength=3).tolist() == [3, 0, 5]
    assert drawn.dtype == np.int64
    other = draw_by_class(labels, index, np.array([3, 0, 5]), np.random.default_rng(1))
    assert other.tolist() != drawn.tolist()
    empty = draw_by_class(labels, index, np.zeros(3, dtype=np.int64), np.random.default_rng(0))
    assert empty.dtype == np.int64
    assert len(empty) == 0
