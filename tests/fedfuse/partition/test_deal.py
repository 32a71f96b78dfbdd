"""From counts to samples, and the ways to counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedfuse.errors import ParameterError, PartitionError
from fedfuse.partition.deal import (
    deal,
    even_sizes,
    fill_evenly,
    round_shares,
    share_classes,
)
from fedfuse.partition.request import check_request, class_ids
from fedfuse.partition.simplex import log_dirichlet

FEW = settings(max_examples=60, deadline=None)


def test_deal_gives_each_client_its_counts_and_leaves_the_rest():
    rng = np.random.default_rng(0)
    classes = rng.permutation(np.repeat([0, 1, 2], [7, 5, 3]))
    counts = np.array([[3, 0, 1], [2, 5, 0]])
    parts = deal(classes, counts, rng)
    assert [np.bincount(classes[p], minlength=3).tolist() for p in parts] == counts.tolist()
    assert len(np.unique(np.concatenate(parts))) == 11


def test_deal_mixes_the_classes_within_a_client():
    classes = np.repeat([0, 1], 500)
    (part,) = deal(classes, np.array([[500, 500]]), np.random.default_rng(0))
    assert 200 < classes[part[:500]].sum() < 300


def test_deal_picks_samples_of_a_class_with_equal_chance():
    classes, counts = np.zeros(4, dtype=np.int64), np.array([[1]])
    rng = np.random.default_rng(0)
    picked = np.bincount([deal(classes, counts, rng)[0][0] for _ in range(4000)], minlength=4)
    assert np.all(np.abs(picked - 1000) < 120)  # more than four standard deviations of 27


@FEW
@given(hnp.arrays(np.int64, st.integers(1, 12), elements=st.integers(0, 50)), st.data())
def test_fill_evenly_is_exact_within_capacity_and_level(capacity, data):
    total = data.draw(st.integers(0, int(capacity.sum())))
    filled = fill_evenly(capacity, total)
    assert filled.sum() == total
    assert np.all((filled >= 0) & (filled <= capacity))
    # Whoever has room left is at most one below the fullest.
    room = filled[filled < capacity]
    assert room.size == 0 or filled.max() - room.min() <= 1


@FEW
@given(
    hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(1e-12, 1)),
    st.integers(0, 10_000),
)
def test_round_shares_is_exact_and_near(shares, total):
    counts = round_shares(shares, total)
    assert counts.sum() == total
    assert np.all(counts >= 0)
    assert np.all(np.abs(counts - shares / shares.sum() * total) <= 1 + 1e-6)


def test_even_sizes_by_hand():
    assert even_sizes(10, 4).tolist() == [3, 3, 2, 2]


def test_share_classes_by_hand():
    owns = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=bool)
    # Class 0 gives 2, 1, 1; of class 1's five, the odd one goes to the poorer of its two owners.
    counts = share_classes(np.array([4, 5, 9]), owns)
    assert counts.tolist() == [[2, 2, 0], [1, 0, 0], [1, 3, 0]]


@pytest.mark.parametrize("alpha", [1e-320, 1e-6, 0.5, 1e6, 1e300])
def test_log_dirichlet_is_finite_and_on_the_simplex(alpha):
    logs = log_dirichlet(alpha, 50, 100, np.random.default_rng(0))
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1.0, rtol=1e-12)


def test_log_dirichlet_has_the_moments_of_the_distribution():
    """Mean 1/C, variance (C - 1) / (C**2 (C alpha + 1)): for C = 4, alpha = 0.5, 3/48."""
    shares = np.exp(log_dirichlet(0.5, 40_000, 4, np.random.default_rng(0)))
    np.testing.assert_allclose(shares.mean(axis=0), 0.25, atol=0.006)
    np.testing.assert_allclose(shares.var(axis=0), 3 / 48, rtol=0.03)


def test_class_ids_close_the_gaps():
    position, sizes = class_ids(np.array([9, 2, 9, 5]))
    assert position.tolist() == [2, 0, 2, 1]
    assert sizes.tolist() == [1, 1, 2]


def test_check_request_says_how_many_samples_it_takes():
    labels = np.zeros(9, dtype=np.int64)
    check_request("me", labels, 3, 3)
    with pytest.raises(PartitionError, match="got 9 samples, allowed: at least 10"):
        check_request("me", labels, 10)
    with pytest.raises(PartitionError, match=r"at least 12.*min_samples"):
        check_request("me", labels, 3, 4)
    with pytest.raises(ParameterError, match="num_clients"):
        check_request("me", labels, 0)
    with pytest.raises(PartitionError, match="float64"):
        check_request("me", np.zeros(9), 3)
