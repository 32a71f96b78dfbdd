import json
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.data.duplicates import count_duplicates, row_hashes
from fedfuse.data.public import External, HeldOut, Noise
from fedfuse.data.raw import Decoded, describe
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.data.split import federate
from fedfuse.errors import DataError, DataWarning, FedfuseError, PartitionError
from fedfuse.partition import Fixed
from fedfuse.types import PublicSet, Samples
from server.reporters.folder import RunFolder
from server.reporters.partition_file import SPLITS, partition_columns, write_partition


def deal(labels, num_clients, rng):
    """Deal samples in random order, evenly."""
    return np.array_split(rng.permutation(len(labels)), num_clients)


def by_class(labels, num_clients, rng):
    """Give client k the classes k modulo the number of clients."""
    return [np.flatnonzero(labels % num_clients == k) for k in range(num_clients)]


def split(raw, **changes):
    settings = {
        "partitioner": deal,
        "num_clients": 4,
        "public": HeldOut(40),
        "seed": 0,
        "batch_size": 8,
    }
    return federate(raw, **(settings | changes))


@pytest.fixture(scope="module")
def raw():
    return synthetic(num_train=600, num_test=200)


@pytest.fixture(scope="module")
def one_pool():
    return synthetic(num_train=600, num_test=0)


def skewed_pool(counts, seed=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    inputs = np.random.default_rng(seed).integers(0, 256, (len(labels), 1, 4, 4), dtype=np.uint8)
    return Samples(inputs, labels)


def dataset(train, test=None):
    classes = int(train.labels.max()) + 1
    return describe("made", Decoded(train, test, tuple(map(str, range(classes)))))


@settings(max_examples=30, deadline=None)
@given(
    num_clients=st.integers(1, 12),
    size=st.integers(1, 200),
    val_fraction=st.sampled_from([0, 0.1, 0.5]),
    seed=st.integers(0, 2**62),
    own=st.booleans(),
)
def test_every_part_is_disjoint_and_complete(num_clients, size, val_fraction, seed, own):
    raw = synthetic(num_train=600, num_test=0 if own else 200)
    data = split(
        raw,
        num_clients=num_clients,
        public=HeldOut(size, "natural"),
        val_fraction=val_fraction,
        seed=seed,
        batch_size=1,
    )
    assert [c.client_id for c in data.clients] == list(range(num_clients))
    owned = np.concatenate([p for c in data.clients for p in (c.train, c.val)])
    assert len(np.unique(owned)) == len(owned) == 600 - size - (120 if own else 0)
    rows = row_hashes(raw.train.inputs)
    assert not np.isin(row_hashes(data.public.inputs), rows[owned]).any()
    assert not np.isin(row_hashes(data.test.inputs), rows[owned]).any()
    assert not np.isin(row_hashes(data.test.inputs), row_hashes(data.public.inputs)).any()
    assert len(data.test) == (120 if own else 200)


def test_a_part_of_the_training_pool_becomes_the_test_pool(one_pool):
    data = split(one_pool, test_fraction=0.25)
    assert np.bincount(data.test.labels).tolist() == [15] * 10
    assert data.train is one_pool.train
    # The statistics are those of the rest: they know no test sample.
    hidden = np.isin(row_hashes(one_pool.train.inputs), row_hashes(data.test.inputs))
    rest = one_pool.train.inputs[~hidden].astype(np.float64) / 255
    assert len(rest) == 450
    assert data.mean[0] == pytest.approx(rest.mean(), rel=1e-9)
    assert data.std[0] == pytest.approx(rest.std(), rel=1e-9)


def test_the_test_split_of_the_data_set_is_used_as_it_is(raw):
    data = split(raw)
    assert data.test is raw.test
    assert data.mean == raw.mean


def test_the_same_seed_gives_the_same_federation_and_another_one_another(raw):
    one, same, other = split(raw), split(raw), split(raw, seed=1)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    for a, b in zip(one.clients, same.clients, strict=True):
        for part in ("train", "val", "test"):
            np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


def test_the_fingerprint_sees_every_choice(raw, one_pool):
    variants = [
        split(raw),
        split(raw, num_clients=5),
        split(raw, partitioner=by_class),
        split(raw, val_fraction=0.2),
        split(raw, own_test_size=50),
        split(raw, own_test_shift=0.5),
        split(raw, public=HeldOut(41)),
        split(raw, public=Noise(40)),
        split(raw, public=Noise(40, "gaussian")),
        split(synthetic(num_train=600, num_test=200, seed=1)),
        split(one_pool),
        split(one_pool, test_fraction=0.3),
        split(raw, partitioner=Shift(0.5)),
        split(raw, partitioner=Shift(0.25)),
    ]
    assert len({v.fingerprint for v in variants}) == len(variants)


def test_one_draw_does_not_move_the_others(raw):
    base = split(raw)
    longer = split(raw, val_fraction=0.3)
    np.testing.assert_array_equal(base.public.inputs, longer.public.inputs)
    for a, b in zip(base.clients, longer.clients, strict=True):
        np.testing.assert_array_equal(np.union1d(a.train, a.val), np.union1d(b.train, b.val))


def test_validation_is_stratified(raw):
    data = split(raw, val_fraction=0.2, public=Noise(10))
    for client in data.clients:
        train = np.bincount(raw.train.labels[client.train], minlength=10)
        val = np.bincount(raw.train.labels[client.val], minlength=10)
        assert val.sum() == round(0.2 * (train.sum() + val.sum()))
        assert (np.abs(val - 0.2 * (train + val)) < 1).all()


def test_no_validation_and_a_little_of_it(raw):
    assert all(len(c.val) == 0 for c in split(raw, val_fraction=0).clients)
    some = split(raw, val_fraction=0.001)
    assert all(len(c.val) == 1 for c in some.clients)
    most = split(raw, val_fraction=0.999, batch_size=1)
    assert all(len(c.train) == 1 for c in most.clients)


def test_the_own_test_set_has_the_class_prior_of_the_client(raw):
    data = split(raw, partitioner=by_class, num_clients=5, public=Noise(5))
    for client in data.clients:
        counts = np.bincount(raw.test.labels[client.test], minlength=10)
        wanted = np.zeros(10, dtype=int)
        wanted[[client.client_id, client.client_id + 5]] = 20  # all there are of the two
        np.testing.assert_array_equal(counts, wanted)
        assert len(np.unique(client.test)) == len(client.test)


def test_a_shift_tests_clients_on_the_next_ones_classes_and_changes_nothing_else(raw):
    base, half, whole = (
        split(raw, partitioner=by_class, num_clients=5, public=Noise(5), own_test_shift=shift)
        for shift in (0, 0.5, 1)
    )
    for client, mixed, other in zip(base.clients, half.clients, whole.clients, strict=True):
        for part in ("train", "val"):
            np.testing.assert_array_equal(getattr(client, part), getattr(mixed, part))
        own = client.client_id + np.array([0, 5])
        following = (client.client_id + 1) % 5 + np.array([0, 5])
        counts = np.bincount(raw.test.labels[other.test], minlength=10)
        assert np.flatnonzero(counts).tolist() == sorted(following)
        counts = np.bincount(raw.test.labels[mixed.test], minlength=10)
        assert counts[own].sum() == pytest.approx(counts[following].sum(), abs=1)
        assert counts[[*own, *following]].sum() == len(mixed.test)
    np.testing.assert_array_equal(base.test.labels, whole.test.labels)
    again = split(raw, partitioner=by_class, num_clients=5, public=Noise(5))
    assert again.fingerprint == base.fingerprint


def test_proportions_are_kept_where_the_supply_limits_the_size():
    # 90:10 in training; of class 0 the pool has 45, so 50 samples keep the proportion.
    raw = dataset(skewed_pool([90, 10]), skewed_pool([45, 45], seed=1))
    (client,) = split(raw, num_clients=1, public=Noise(5), val_fraction=0).clients
    assert np.bincount(raw.test.labels[client.test]).tolist() == [45, 5]
    (client,) = split(raw, num_clients=1, public=Noise(5), own_test_size=20).clients
    assert np.bincount(raw.test.labels[client.test]).tolist() == [18, 2]


def test_an_unbalanced_test_pool_is_cut_to_a_balanced_one():
    raw = dataset(skewed_pool([50, 50, 50]), skewed_pool([40, 10, 16], seed=1))
    data = split(raw)
    assert np.bincount(data.test.labels).tolist() == [10, 10, 10]
    assert np.isin(row_hashes(data.test.inputs), row_hashes(raw.test.inputs)).all()
    nearly = dataset(skewed_pool([50, 50, 50]), skewed_pool([15, 10, 12], seed=1))
    assert split(nearly).test is nearly.test


def test_the_balanced_test_set_is_bounded_and_own_tests_are_not(raw):
    data, whole = split(raw, max_test_samples=55), split(raw)
    assert np.bincount(data.test.labels).tolist() == [5] * 10
    np.testing.assert_array_equal(raw.test.inputs[data.kept], data.test.inputs)
    for ours, theirs in zip(data.clients, whole.clients, strict=True):
        counts = [np.bincount(raw.test.labels[c.test], minlength=10) for c in (ours, theirs)]
        np.testing.assert_array_equal(*counts)
        # Those that everybody is tested on anyway come first.
        shared = np.bincount(raw.test.labels[np.intersect1d(ours.test, data.kept)], minlength=10)
        np.testing.assert_array_equal(shared, np.minimum(counts[0], 5))
    assert split(raw, max_test_samples=200).test is raw.test
    assert data.fingerprint != split(raw).fingerprint


def test_a_long_tail_does_not_shrink_the_own_tests():
    # Of the rarest class one sample in five becomes a test sample: one, so six in all are balanced.
    raw = dataset(skewed_pool([1500, 800, 400, 200, 95, 5]))
    data = split(raw, num_clients=3, public=HeldOut(100, "natural"))
    assert np.bincount(data.test.labels).tolist() == [1] * 6
    for client in data.clients:
        have = np.bincount(raw.train.labels[np.union1d(client.train, client.val)], minlength=6)
        counts = np.bincount(data.own_pool.labels[client.test], minlength=6)
        assert counts.sum() >= 190
        assert (np.abs(counts - counts.sum() * have / have.sum()) < 1).all()
        assert len(np.unique(client.test)) == len(client.test)
    held = row_hashes(raw.train.inputs[data.own_test_rows])
    np.testing.assert_array_equal(held, row_hashes(data.own_pool.inputs))
    owned = np.concatenate([p for c in data.clients for p in (c.train, c.val)])
    assert not np.intersect1d(data.own_test_rows, owned).size


def owners(data):
    return [np.union1d(client.train, client.val).tolist() for client in data.clients]


@pytest.mark.parametrize("num_test", [0, 200])
def test_a_partition_by_rows_owns_those_rows_of_the_training_file(tmp_path, num_test):
    raw = synthetic(num_train=600, num_test=num_test, num_classes=3)
    sites = [np.flatnonzero(raw.train.labels[:400] == site) for site in range(3)]
    (tmp_path / "p.json").write_text(json.dumps([site.tolist() for site in sites]))
    with pytest.warns(DataWarning, match=r"Fixed: of the 400 rows .* left out, .* public samples"):
        data = split(raw, partitioner=Fixed(tmp_path / "p.json"), num_clients=3)
    spare = np.concatenate([row_hashes(data.test.inputs), row_hashes(data.public.inputs)])
    rows = row_hashes(raw.train.inputs)
    wanted = [site[~np.isin(rows[site], spare)].tolist() for site in sites]
    assert owners(data) == wanted
    assert all(len(rows) > 60 for rows in wanted)


def test_no_row_is_left_out_where_test_and_public_come_from_elsewhere(raw, tmp_path):
    parts = [[599, 0, 17, 3, 9, 21, 33, 45, 60], list(range(100, 110)), [*range(200, 300)]]
    np.savez(tmp_path / "p.npz", *parts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = split(
            raw, partitioner=Fixed(tmp_path / "p.npz"), num_clients=3, public=Noise(5), batch_size=1
        )
    assert owners(data) == [sorted(part) for part in parts]


def test_a_client_that_test_and_public_samples_leave_nothing_is_named(tmp_path):
    raw = synthetic(num_train=600, num_test=0)
    held = split(raw).own_test_rows
    (tmp_path / "p.json").write_text(json.dumps([held[:9].tolist(), held[9:].tolist()]))
    with pytest.raises(PartitionError, match=r"row of client 0 is a test or public.* 120 test"):
        split(raw, partitioner=Fixed(tmp_path / "p.json"), num_clients=2)


@pytest.mark.parametrize("num_test", [0, 200])
def test_a_written_partition_is_read_back_to_itself(tmp_path, num_test):
    raw = synthetic(num_train=600, num_test=num_test)
    first = split(raw, max_test_samples=60)
    columns = partition_columns(first)
    folder = RunFolder(tmp_path)
    write_partition(folder, **columns)
    again = split(raw, max_test_samples=60, partitioner=Fixed(tmp_path / "partition.parquet"))
    for name, column in partition_columns(again).items():
        np.testing.assert_array_equal(column, columns[name])
    # What is written are rows of the files, by which anybody finds the samples.
    test = columns["splits"] == SPLITS.index("test")
    file = raw.train if raw.test is None else raw.test
    for pool, which in ((raw.train, ~test), (file, test)):
        np.testing.assert_array_equal(
            pool.labels[columns["index"][which]], columns["labels"][which]
        )


def test_a_class_that_the_test_pool_lacks_is_left_out_with_a_warning():
    raw = dataset(skewed_pool([50, 50, 50]), skewed_pool([20, 20], seed=1))
    with pytest.warns(DataWarning, match=r"no samples of the classes \[2\]"):
        data = split(raw)
    assert set(data.test.labels.tolist()) == {0, 1}
    with (
        pytest.warns(DataWarning, match="classes"),
        pytest.raises(DataError, match=r"Client 2 has no class that the test pool has.*\[2\]"),
    ):
        split(raw, partitioner=by_class, num_clients=3)


@dataclass(frozen=True)
class Shift:
    step: float

    def __call__(self, labels, num_clients, rng):
        return deal(labels, num_clients, rng)

    def transform(self, client_id, num_clients, seed):
        assert isinstance(seed, int)
        if client_id == 0:
            return None
        return lambda x: x * (1 - self.step * client_id / num_clients)


def test_feature_shift_reaches_the_clients(raw):
    clients = split(raw, partitioner=Shift(0.5)).clients
    assert clients[0].transform is None
    assert clients[2].transform(torch.full((1, 1, 8, 8), 100.0)).max() == pytest.approx(75)
    assert all(c.transform is None for c in split(raw).clients)


def test_a_transform_that_changes_the_shape_is_refused(raw):
    class Flatten(Shift):
        def transform(self, client_id, num_clients, seed):
            return lambda x: x.flatten(1)

    with pytest.raises(PartitionError, match="transform of client 0 changes the shape"):
        split(raw, partitioner=Flatten(0.1))


@pytest.mark.parametrize(
    ("partitioner", "words"),
    [
        (lambda y, k, rng: [np.arange(10)] * k, "Clients 0 and 1 both hold"),
        (lambda y, k, rng: [np.arange(10), [], np.arange(10, 30), []], "empty clients 1, 3"),
        (lambda y, k, rng: [np.arange(9.0)] * k, "part of client 0 is not a list"),
        (lambda y, k, rng: [[0], [1], [2], [len(y)]], "client 3 holds an index"),
        (lambda y, k, rng: [[0], [1], [2], [-1]], "client 3 holds an index"),
        (lambda y, k, rng: [[0]], "wrong number of parts"),
        (lambda y, k, rng: None, "did not return a list"),
    ],
)
def test_a_partitioner_that_breaks_its_promise_is_refused(raw, partitioner, words):
    with pytest.raises(PartitionError, match=words):
        split(raw, partitioner=partitioner)


def test_the_partitioner_sees_the_labels_of_what_remains_and_may_leave_some(raw):
    seen = {}

    def first(labels, num_clients, rng):
        seen["labels"] = labels.copy()
        return [np.flatnonzero(labels == k) for k in range(num_clients)]

    data = split(raw, partitioner=first)
    assert len(seen["labels"]) == 560
    for client in data.clients:
        owned = np.union1d(client.train, client.val)
        assert set(raw.train.labels[owned].tolist()) == {client.client_id}
        assert len(owned) == 56


def test_a_partitioner_cannot_change_the_labels_of_the_data(raw):
    def vandal(labels, num_clients, rng):
        parts = deal(labels, num_clients, rng)
        labels[:] = 0
        return parts

    before = raw.train.labels.copy()
    split(raw, partitioner=vandal)
    np.testing.assert_array_equal(raw.train.labels, before)


def test_more_clients_than_samples(raw):
    with pytest.raises(DataError, match=r"got num_clients=561, allowed: at most 560"):
        split(raw, num_clients=561, batch_size=1)


def test_a_public_set_larger_than_the_data(raw):
    with pytest.raises(DataError, match=r"public.size=9000, allowed: less than the 600"):
        split(raw, public=HeldOut(9000))


def test_a_client_smaller_than_a_batch(raw):
    def uneven(labels, num_clients, rng):
        return [np.arange(3), np.arange(3, 8), np.arange(8, 300), np.arange(300, 500)]

    with pytest.raises(
        DataError,
        match=r"client 0 has 2, client 1 has 4 after val_fraction=0.1, allowed: at least 8.*Lower",
    ):
        split(raw, partitioner=uneven)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"num_clients": 0}, "num_clients"),
        ({"num_clients": 2.0}, "num_clients"),
        ({"num_clients": True}, "num_clients"),
        ({"batch_size": 0}, "batch_size"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"val_fraction": float("nan")}, "val_fraction"),
        ({"val_fraction": False}, "val_fraction"),
        ({"test_fraction": 0.0}, "test_fraction"),
        ({"test_fraction": float("nan")}, "test_fraction"),
        ({"own_test_size": 0}, "own_test_size"),
        ({"own_test_shift": 1.1}, "own_test_shift"),
        ({"own_test_shift": float("nan")}, "own_test_shift"),
        ({"max_test_samples": 0}, "max_test_samples"),
        ({"max_test_samples": 10.0}, "max_test_samples"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_parameters_are_refused(raw, change, name):
    with pytest.raises(FedfuseError, match=f"'{name}' parameter"):
        split(raw, **change)


def test_copies_across_the_parts_are_counted_and_warned_about(raw):
    inputs = np.array(raw.train.inputs)
    inputs[:3] = raw.test.inputs[:3]
    copied = describe(
        "copied", Decoded(Samples(inputs, raw.train.labels), raw.test, raw.class_names)
    )
    with pytest.warns(DataWarning, match="test in private: 3"):
        data = split(copied, public=Noise(10))
    assert count_duplicates(data) == {
        "public_in_private": 0,
        "public_in_test": 0,
        "test_in_private": 3,
    }
    public = PublicSet(np.concatenate([inputs[:1], inputs[10:12]]), None, "made")
    assert count_duplicates(replace(data, public=public)) == {
        "public_in_private": 3,
        "public_in_test": 1,
        "test_in_private": 3,
    }


def test_clean_data_does_not_warn(raw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split(raw)


def test_a_public_source_that_breaks_its_promise_is_refused(raw):
    def wrong_layout(raw, available, rng):
        return PublicSet(np.zeros((3, 5), np.float32), None, "x"), np.empty(0, np.int64)

    def twice(raw, available, rng):
        return PublicSet(raw.train.inputs[:2], None, "x"), np.array([0, 0])

    with pytest.raises(DataError, match="layout of the private data"):
        split(raw, public=wrong_layout)
    with pytest.raises(DataError, match="took rows twice"):
        split(raw, public=twice)


def test_an_external_public_set_leaves_all_private_samples_to_the_clients(raw):
    data = split(raw, public=External(synthetic(seed=3, image_size=12), size=50))
    assert sum(len(c.train) + len(c.val) for c in data.clients) == 600
    assert data.public.labels is None
    with pytest.raises(DataError, match="holds the private or test data"):
        split(raw, public=External(raw, size=50))


def test_features_go_the_same_way():
    raw = synthetic(num_train=300, num_test=0, kind="features", num_features=6)
    data = split(raw)
    assert data.mean == data.std == ()
    assert data.input_shape == (6,)
    assert data.public.inputs.dtype == np.float32
    assert data.class_counts().sum() == sum(len(c.train) for c in data.clients)
