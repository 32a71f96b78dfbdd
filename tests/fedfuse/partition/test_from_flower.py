"""Flower's partitioners through the adapter."""

import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from fedfuse.errors import ConfigError, ParameterError, PartitionError
from fedfuse.partition import FromFlower, validate_partition

pytestmark = pytest.mark.skipif(not find_spec("flwr_datasets"), reason="needs the extra 'hub'")
LABELS = np.random.default_rng(0).permutation(np.arange(600) % 10)

CASES = {
    "IidPartitioner": {},
    "DirichletPartitioner": {"alpha": 0.5, "min_partition_size": 5},
    "PathologicalPartitioner": {"num_classes_per_partition": 2},
    "ShardPartitioner": {"num_shards_per_partition": 2},
    "LinearPartitioner": {},
    "InnerDirichletPartitioner": {"alpha": 0.5},
    "SizePartitioner": {},
    "DistributionPartitioner": {
        "distribution_array": [[1.0]] * 10,
        "num_unique_labels_per_partition": 1,
        "preassigned_num_samples_per_label": 5,
    },
    "NaturalIdPartitioner": {},
}


@pytest.fixture(scope="module")
def flower():
    """Flower's partitioners; nearly two seconds, which each worker would pay for an import."""
    return import_module("flwr_datasets.partitioner")


def run(partitioner, num_clients=10, seed=0, labels=LABELS):
    parts = partitioner(labels, num_clients, np.random.default_rng(seed))
    return validate_partition(parts, len(labels), num_clients)


@pytest.mark.parametrize("name", CASES)
def test_a_class_by_name(name):
    partitioner = FromFlower(name, CASES[name])
    parts = run(partitioner)
    again = run(partitioner)
    assert all(map(np.array_equal, parts, again))
    assert not all(map(np.array_equal, parts, run(partitioner, seed=1)))


def test_indices_are_positions_in_our_labels():
    for part in run(FromFlower("NaturalIdPartitioner")):
        assert len(np.unique(LABELS[part])) == 1
    for part in run(FromFlower("PathologicalPartitioner", {"num_classes_per_partition": 2})):
        assert len(np.unique(LABELS[part])) <= 2
    assert [len(p) for p in run(FromFlower("LinearPartitioner"), 3)] == [100, 200, 300]


def test_the_samples_are_shuffled_first_unless_told_otherwise(flower):
    """Flower's iid cuts consecutive blocks."""
    labels = np.repeat(np.arange(10), 60)
    mixed = run(FromFlower(flower.IidPartitioner), labels=labels)
    assert min(len(np.unique(labels[part])) for part in mixed) > 5
    blocks = run(FromFlower("IidPartitioner", shuffle=False), labels=labels)
    assert [part.tolist() for part in blocks] == np.arange(600).reshape(10, 60).tolist()


def test_an_instance_is_copied_and_can_be_used_again(flower):
    instance = flower.DirichletPartitioner(10, "label", alpha=1.0, min_partition_size=5, seed=3)
    partitioner = FromFlower(instance)
    assert all(map(np.array_equal, run(partitioner), run(partitioner)))
    assert not instance.is_dataset_assigned()


def test_given_options_stand_over_filled_ones():
    sizes = [100, 200, 50]
    parts = run(FromFlower("SizePartitioner", {"partition_sizes": sizes}), 3)
    assert [len(part) for part in parts] == sizes


def test_an_unknown_class_has_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'DirichletPartitioner'"):
        run(FromFlower("DirichletPartitoner"))
    with pytest.raises(ConfigError, match="no partitioner 'Partitioner'"):
        run(FromFlower("Partitioner"))


def test_an_unknown_option_has_a_suggestion():
    with pytest.raises(ParameterError, match=r"'alhpa'.*Did you mean 'alpha'"):
        run(FromFlower("DirichletPartitioner", {"alhpa": 0.5}))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("DirichletPartitioner", {}, "alpha"),
        ("DirichletPartitioner", {"alpha": -1.0}, "strictly greater than zero"),
        ("PathologicalPartitioner", {"num_classes_per_partition": 11}, "greater than the number"),
        ("NaturalIdPartitioner", {"partition_by": "writer"}, "writer"),
        ("IidPartitioner", {"num_partitions": 4}, "got 4, allowed: num_clients=7"),
        ("NaturalIdPartitioner", {}, "got 10, allowed: num_clients=7"),
    ],
)
def test_what_flower_refuses_is_ours_to_say(name, options, words):
    with pytest.raises(PartitionError, match=f"Flower's {name}.*{words}"):
        run(FromFlower(name, options), 7)


def test_exponential_sizes_fit_few_clients_only():
    """Sizes in proportion to e, e**2, e**3 of 600, rounded down; the last takes the rest."""
    parts = run(FromFlower("ExponentialPartitioner"), 3)
    assert [len(part) for part in parts] == [54, 146, 400]
    with pytest.raises(PartitionError, match=r"Exponential.*30 clients: got .*not greater than 0"):
        run(FromFlower("ExponentialPartitioner"), 30)


def test_what_flower_returns_is_checked(flower):
    class GivesEveryoneTheSame(flower.Partitioner):
        """A partitioner of somebody else, with a fault."""

        def load_partition(self, partition_id):
            return self.dataset.select([5, 6])

        @property
        def num_partitions(self):
            return 2

    with pytest.raises(PartitionError, match="Clients 0 and 1 both hold sample"):
        run(FromFlower(GivesEveryoneTheSame), 2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"partitioner": ""},
        {"partitioner": 3},
        {"partitioner": int},
        {"partitioner": "IidPartitioner", "options": [1]},
        {"partitioner": "IidPartitioner", "options": {1: 2}},
        {"partitioner": "IidPartitioner", "shuffle": 1},
    ],
)
def test_bad_arguments_are_refused_when_given(arguments):
    with pytest.raises(ParameterError, match="of from_flower"):
        FromFlower(**arguments)


def test_an_instance_has_its_options_already(flower):
    with pytest.raises(ParameterError, match="of from_flower"):
        FromFlower(flower.IidPartitioner(3), {"num_partitions": 3})


@pytest.mark.parametrize("missing", ["datasets", "flwr_datasets.partitioner"])
def test_without_the_extra_the_command_to_install_it_is_named(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install .*\[hub\]'"):
        run(FromFlower("IidPartitioner"))
