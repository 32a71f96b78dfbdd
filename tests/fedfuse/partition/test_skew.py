"""The distributions: each partitioner skews what it says, as much as it says."""

import warnings

import numpy as np
import pytest

from fedfuse import partition as P
from fedfuse.errors import PartitionError
from fedfuse.partition import RepairWarning
from fedfuse.partition.dirichlet_balanced import round_to_margins, sinkhorn
from fedfuse.partition.dirichlet_inner import inner_counts
from fedfuse.partition.pathological import assign_classes
from tests.fedfuse.partition.test_stats import partition_stats

LABELS = np.random.default_rng(5).permutation(np.repeat(np.arange(10), 1000))
DIRICHLETS = [P.Dirichlet, P.DirichletCapped, P.DirichletInner, P.DirichletBalanced]


def stats(partitioner, labels=LABELS, num_clients=20, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepairWarning)
        parts = partitioner(labels, num_clients, np.random.default_rng(seed))
    return partition_stats(parts, labels, int(labels.max()) + 1)


@pytest.mark.parametrize("kind", DIRICHLETS)
def test_a_small_alpha_leaves_about_one_class_and_a_large_one_all(kind):
    by_alpha = [stats(kind(alpha, min_samples=10)) for alpha in (0.01, 0.1, 1.0, 1000.0)]
    effective = [s.effective_classes.mean() for s in by_alpha]
    distance = [s.mean_distance for s in by_alpha]
    assert effective[0] < 2
    assert effective[3] > 9.4
    assert np.all(np.diff(effective) > 0.5)
    # At 0.01 a repaired client shares the classes of its giver, which brings the two together.
    assert np.all(np.diff(distance[1:]) < 0)
    assert distance[0] > 0.75
    assert distance[3] < 0.1


@pytest.mark.parametrize("kind", DIRICHLETS)
@pytest.mark.parametrize("alpha", [1e-300, 1e-6])
def test_a_vanishing_alpha_is_as_skewed_as_a_tiny_one(kind, alpha):
    assert stats(kind(alpha, min_samples=1)).effective_classes.mean() < 1.8


def test_the_conventions_differ_in_sizes():
    spread = {kind: np.ptp(stats(kind(0.3, min_samples=1)).sizes) for kind in DIRICHLETS}
    assert spread[P.DirichletInner] == spread[P.DirichletBalanced] == 0
    assert 0 < spread[P.DirichletCapped] < spread[P.Dirichlet]


def test_capped_clients_get_no_class_after_they_are_full():
    """Whoever has N / K = 500 after some class has nothing of the classes that follow."""
    counts = stats(P.DirichletCapped(0.3, min_samples=1), seed=3).counts
    before = np.cumsum(counts, axis=1) - counts
    assert (before >= 500).any()
    assert np.all(counts[before >= 500] == 0)


@pytest.mark.parametrize("num_clients", [3, 7, 30])
def test_balanced_sizes_are_equal_within_one_and_use_everything(num_clients):
    labels = np.repeat(np.arange(6), [400, 200, 100, 50, 25, 12])
    for alpha in (1e-6, 0.05, 0.5, 100.0):
        sizes = stats(P.DirichletBalanced(alpha, min_samples=1), labels, num_clients).sizes
        assert sizes.sum() == len(labels)
        assert np.ptp(sizes) <= 1


def test_sinkhorn_meets_both_margins_where_it_can():
    logs = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 8))
    rows, columns = np.full(8, 25), np.array([100, 50, 25, 15, 10])
    scaled = np.exp(sinkhorn(logs, rows, columns))
    np.testing.assert_allclose(scaled.sum(axis=1), rows, rtol=1e-9)
    np.testing.assert_allclose(scaled.sum(axis=0), columns, atol=0.01)
    counts = round_to_margins(np.log(scaled), rows, columns)
    assert np.array_equal(counts.sum(axis=1), rows)
    assert np.array_equal(counts.sum(axis=0), columns)
    assert np.abs(counts - scaled).max() < 2


def test_rounding_repairs_even_a_plan_that_is_nowhere_near():
    counts = round_to_margins(np.zeros((3, 2)) - 800.0, np.array([4, 1, 1]), np.array([3, 3]))
    assert counts.sum(axis=1).tolist() == [4, 1, 1]
    assert counts.sum(axis=0).tolist() == [3, 3]


def test_inner_gives_the_sizes_and_follows_the_prior_while_it_can():
    labels = np.repeat(np.arange(4), 5000)
    sizes = np.array([1000, 1000])
    priors = np.log([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])
    counts = inner_counts(priors, sizes, np.bincount(labels), np.random.default_rng(0))
    np.testing.assert_allclose(counts / 1000, np.exp(priors), atol=0.05)
    assert counts.sum(axis=1).tolist() == [1000, 1000]


def test_inner_goes_on_when_the_preferred_class_runs_out():
    """Both want class 0 alone; it has 3 samples, and class 1 comes next in the prior."""
    priors = np.array([[0.0, -1e5, -2e5], [0.0, -1e5, -2e5]])
    counts = inner_counts(priors, np.array([2, 2]), np.array([3, 1, 9]), np.random.default_rng(0))
    assert counts.sum(axis=0).tolist() == [3, 1, 0]
    assert counts.sum(axis=1).tolist() == [2, 2]


def test_inner_refuses_sizes_that_do_not_fit():
    for sizes in ([20, 20, 20], [50, 51]):
        with pytest.raises(PartitionError, match=f"{len(sizes)} sizes with the sum {sum(sizes)}"):
            P.DirichletInner(sizes=sizes, min_samples=10)(
                np.arange(100) % 3, 2, np.random.default_rng(0)
            )


@pytest.mark.parametrize("num_clients", [5, 7, 20])
@pytest.mark.parametrize("per_client", [1, 2, 3, 10])
def test_pathological_gives_exactly_that_many_classes_and_shares_evenly(num_clients, per_client):
    result = stats(P.Pathological(per_client), num_clients=num_clients)
    assert np.all((result.counts > 0).sum(axis=1) == per_client)
    owners = (result.counts > 0).sum(axis=0)
    assert np.ptp(owners) <= 1
    for column in result.counts.T:
        if column.any():
            assert np.ptp(column[column > 0]) <= 1
    if num_clients * per_client >= 10:
        assert result.sizes.sum() == len(LABELS)


def test_a_rare_class_has_no_more_owners_than_samples():
    for seed in range(20):
        owns = assign_classes(np.array([1, 2, 50, 50]), 10, 2, np.random.default_rng(seed))
        assert owns.sum(axis=1).tolist() == [2] * 10
        assert owns.sum(axis=0)[0] <= 1
        assert owns.sum(axis=0)[1] <= 2


def test_pathological_refuses_more_classes_than_there_are_or_can_be_shared():
    rng = np.random.default_rng(0)
    with pytest.raises(PartitionError, match="classes_per_client of at most 10"):
        P.Pathological(11)(LABELS, 5, rng)
    with pytest.raises(PartitionError, match=r"got room for 7 client-class pairs, .* 10"):
        P.Pathological(2)(np.array([0, 0, 0, 0, 0, 1, 2]), 5, rng)


def test_shards_have_few_classes_and_equal_sizes():
    result = stats(P.Shards(2))
    # 40 shards of 250 out of classes of 1000: no shard crosses a class.
    assert np.all(result.sizes == 500)
    assert np.all((result.counts > 0).sum(axis=1) <= 2)
    assert set(np.unique(result.counts)) <= {0, 250, 500}
    with pytest.raises(PartitionError, match="cannot cut 40 shards: got 30 samples"):
        P.Shards(4)(LABELS[:30], 10, np.random.default_rng(0))


def test_iid_is_equal_in_size_and_close_in_labels():
    result = stats(P.Iid())
    assert np.all(result.sizes == 500)
    assert result.effective_classes.min() > 9.5


def test_lognormal_sizes_follow_sigma_and_labels_stay_iid():
    sizes = stats(P.QuantityLogNormal(0.5, min_samples=1), num_clients=200).sizes
    assert abs(np.log(sizes).std() - 0.5) < 0.1
    assert np.ptp(stats(P.QuantityLogNormal(0.0)).sizes) == 0
    result = stats(P.QuantityLogNormal(1.0, min_samples=200))
    assert result.sizes.min() >= 200
    assert result.effective_classes.min() > 9


def test_powerlaw_sizes_by_hand():
    """1 + 1/4 + 1/9 + 1/16 = 205/144; 2050 samples give 1440, 360, 160, 90."""
    labels = np.zeros(2050, dtype=np.int64)
    assert stats(P.QuantityPowerLaw(2.0), labels, 4).sizes.tolist() == [1440, 360, 160, 90]


def test_groups_share_their_classes_and_nothing_else():
    partitioner = P.LabelGroups(num_groups=5, classes_per_group=2)
    result = stats(partitioner)
    groups = np.array(partitioner.groups(20))
    assert np.bincount(groups).tolist() == [4] * 5
    expected = groups[:, None] == np.arange(10)[None, :] // 2
    assert np.array_equal(result.counts > 0, expected)
    assert np.all(result.counts[expected] == 250)


def test_a_leak_deals_that_share_to_everyone():
    """A tenth of 1000 over 20 clients is 5 each; the other 900 go to the 4 clients of the group."""
    partitioner = P.LabelGroups(num_groups=5, classes_per_group=2, leak=0.1)
    counts = stats(partitioner).counts
    own = np.array(partitioner.groups(20))[:, None] == np.arange(10)[None, :] // 2
    assert np.all(counts[own] == 225 + 5)
    assert np.all(counts[~own] == 5)
    assert np.all(stats(P.LabelGroups(5, 2, leak=1.0)).counts == 50)


def test_groups_refuse_what_cannot_be_planted():
    rng = np.random.default_rng(0)
    with pytest.raises(PartitionError, match="5 groups and 4 clients"):
        P.LabelGroups().groups(4)
    with pytest.raises(PartitionError, match="5 groups and 4 clients"):
        P.LabelGroups()(LABELS, 4, rng)
    with pytest.raises(PartitionError, match="got 10 classes in the data, allowed: at least 12"):
        P.LabelGroups(num_groups=6)(LABELS, 6, rng)
    with pytest.raises(PartitionError, match="leaves clients without a sample"):
        P.LabelGroups(2, 1)(np.array([0] + [1] * 9), 4, rng)


def test_classes_beyond_the_groups_stay_unused():
    result = stats(P.LabelGroups(num_groups=3, classes_per_group=2, leak=0.5))
    assert result.counts[:, 6:].sum() == 0
    assert result.counts[:, :6].sum() == 6000


def test_groups_of_given_sizes_keep_their_shares():
    whole = stats(P.LabelGroups(5, 2, leak=0.2)).counts
    some = stats(P.LabelGroups(5, 2, leak=0.2, samples=100)).counts
    assert (some.sum(axis=1) == 100).all()
    np.testing.assert_allclose(some / 100, whole / whole.sum(axis=1, keepdims=True), atol=0.011)
    # Who has less keeps all of it.
    few = np.random.default_rng(5).permutation(np.repeat(np.arange(10), 20))
    sizes = stats(P.LabelGroups(5, 2, samples=100), labels=few).counts.sum(axis=1)
    assert sizes.sum() == len(few)
