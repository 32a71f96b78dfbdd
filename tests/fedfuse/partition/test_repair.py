"""Moving samples instead of drawing again, and the record of it."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedfuse.errors import PartitionError
from fedfuse.partition import Dirichlet, Iid, RepairWarning, apply_partitioner
from fedfuse.partition.repair import repair


def test_repair_by_hand():
    """20 + 12 + 1 + 0 with 5 each: 9 are missing; 20 gives 8 or 9 and 12 what is then above."""
    counts = np.array([[20, 0], [0, 12], [1, 0], [0, 0]])
    fixed, moved, clients = repair(counts, 5, np.random.default_rng(0))
    assert (moved, clients) == (9, 2)
    # The two givers come down to the level where together they have given 9: 23 left, 12 and 11.
    assert sorted(fixed.sum(axis=1).tolist()) == [5, 5, 11, 12]
    assert fixed.sum(axis=0).tolist() == [21, 12]
    assert counts[0, 0] == 20


def test_repair_leaves_a_good_partition_as_it_is():
    counts = np.array([[5, 1], [3, 3]])
    fixed, moved, clients = repair(counts, 6, np.random.default_rng(0))
    assert fixed is counts
    assert (moved, clients) == (0, 0)


def test_a_gift_has_the_givers_mixture():
    counts = np.array([[6000, 2000], [0, 0]])
    fixed, _, _ = repair(counts, 4000, np.random.default_rng(0))
    assert abs(fixed[1, 0] / 4000 - 0.75) < 0.03


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        np.int64,
        st.tuples(st.integers(1, 12), st.integers(1, 5)),
        elements=st.one_of(st.just(0), st.integers(0, 40)),
    ),
    st.data(),
)
def test_repair_reaches_the_minimum_and_keeps_the_totals(counts, data):
    possible = int(counts.sum()) // len(counts)
    least = data.draw(st.integers(0, possible))
    fixed, moved, clients = repair(counts, least, np.random.default_rng(0))
    sizes, after = counts.sum(axis=1), fixed.sum(axis=1)
    assert np.all(fixed >= 0)
    assert np.all(after >= least)
    assert np.array_equal(fixed.sum(axis=0), counts.sum(axis=0))
    assert moved == np.abs(after - sizes).sum() // 2
    assert clients == (sizes < least).sum()
    assert np.all(after[sizes >= least] <= sizes[sizes >= least])


def test_a_repair_is_a_warning_with_numbers():
    labels = np.repeat(np.arange(3), 100)
    with pytest.warns(RepairWarning) as caught:
        Dirichlet(alpha=1e-6, min_samples=10)(labels, 10, np.random.default_rng(0))
    (warning,) = caught
    # Three classes, each to one client: at most three clients have any sample.
    assert warning.message.owner == "dirichlet"
    assert warning.message.min_samples == 10
    assert warning.message.clients >= 7
    assert warning.message.moved == 10 * warning.message.clients
    assert f"moved {warning.message.moved} samples" in str(warning.message)
    assert str(pickle.loads(pickle.dumps(warning.message))) == str(warning.message)


def test_apply_counts_the_moved_samples_without_warning():
    labels = np.repeat(np.arange(3), 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts, moved = apply_partitioner(
            Dirichlet(1e-6, min_samples=10), labels, 10, np.random.default_rng(0)
        )
    assert moved >= 70
    assert min(len(part) for part in parts) == 10
    assert apply_partitioner(Iid(), labels, 10, np.random.default_rng(0))[1] == 0


def test_apply_lets_other_warnings_through_and_checks_the_parts():
    def noisy(labels, num_clients, rng):
        warnings.warn("careful", UserWarning, stacklevel=1)
        return [[0], [0]]

    labels = np.zeros(4, dtype=np.int64)
    with pytest.raises(PartitionError, match="both hold sample 0"):
        apply_partitioner(noisy, labels, 2, np.random.default_rng(0))
    with pytest.warns(UserWarning, match="careful"):
        apply_partitioner(lambda *a: noisy(*a) and [[0], [1]], labels, 2, np.random.default_rng(0))
