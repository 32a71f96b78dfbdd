"""What every partitioner promises, over one table of all of them."""

import importlib
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import experiments.conf
from fedfuse import partition as P
from fedfuse.errors import ParameterError, PartitionError
from fedfuse.partition import RepairWarning, validate_partition
from fedfuse.testing import check_partitioner

CONF = Path(experiments.conf.__file__).parent / "partitioner"

# name -> (partitioner, whether every sample is used)
TABLE = {
    "iid": (P.Iid(), True),
    "dirichlet": (P.Dirichlet(0.1, min_samples=2), True),
    "dirichlet one-hot": (P.Dirichlet(1e-6, min_samples=3), True),
    "dirichlet_capped": (P.DirichletCapped(0.1, min_samples=2), True),
    "dirichlet_capped one-hot": (P.DirichletCapped(1e-6, min_samples=3), True),
    "dirichlet_inner": (P.DirichletInner(0.1, min_samples=2), True),
    "dirichlet_inner one-hot": (P.DirichletInner(1e-6, min_samples=1), True),
    "dirichlet_balanced": (P.DirichletBalanced(0.1, min_samples=2), True),
    "dirichlet_balanced one-hot": (P.DirichletBalanced(1e-6, min_samples=1), True),
    "pathological": (P.Pathological(1), False),
    "shards": (P.Shards(2), True),
    "quantity_lognormal": (P.QuantityLogNormal(2.0, min_samples=2), True),
    "quantity_powerlaw": (P.QuantityPowerLaw(3.0, min_samples=2), True),
    "feature_noise": (P.FeatureNoise(), True),
    "feature_rotation": (P.FeatureRotation(), True),
    "label_groups": (P.LabelGroups(2, 1, leak=0.2), False),
}
BY_NAME = pytest.mark.parametrize("name", TABLE)


def run(partitioner, labels, num_clients, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepairWarning)
        return partitioner(labels, num_clients, np.random.default_rng(seed))


def may_refuse(partitioner, labels, num_clients):
    """Return whether there are too few samples for the partitioner's structure."""
    each = getattr(partitioner, "min_samples", getattr(partitioner, "shards_per_client", 1))
    if isinstance(partitioner, P.LabelGroups):
        sizes = np.unique(labels, return_counts=True)[1]
        return num_clients < 2 or len(sizes) < 2 or sizes[:2].min() < num_clients
    return len(labels) < num_clients * each


@BY_NAME
@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=150),
    num_clients=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
def test_any_partition_is_valid_and_reproducible(name, labels, num_clients, seed):
    partitioner, uses_all = TABLE[name]
    labels = np.array(labels, dtype=np.int64)
    try:
        parts = run(partitioner, labels, num_clients, seed)
    except PartitionError:
        assert may_refuse(partitioner, labels, num_clients)
        return
    checked = validate_partition(parts, len(labels), num_clients)
    assert min(map(len, checked)) >= getattr(partitioner, "min_samples", 1)
    if uses_all:
        assert sum(map(len, checked)) == len(labels)
    again = run(partitioner, labels, num_clients, seed)
    assert all(map(np.array_equal, parts, again))


@BY_NAME
def test_our_own_check_passes(name):
    check_partitioner(TABLE[name][0])


@BY_NAME
def test_another_seed_gives_another_partition(name):
    labels = np.arange(600) % 6
    parts = [run(TABLE[name][0], labels, 4, seed) for seed in (0, 1)]
    assert not all(map(np.array_equal, *parts))


@BY_NAME
def test_more_clients_than_samples_is_refused_in_words(name):
    with pytest.raises(PartitionError, match=r"got 3 samples, allowed: at least"):
        TABLE[name][0](np.array([0, 1, 2]), 4, np.random.default_rng(0))


@BY_NAME
def test_five_hundred_clients_over_a_hundred_classes(name):
    """The size at which redrawing never ended; a hang would show as a time-out of the suite."""
    labels = np.random.default_rng(0).integers(0, 100, 60_000)
    parts = validate_partition(run(TABLE[name][0], labels, 500), len(labels), 500)
    assert min(map(len, parts)) >= 1


def options():
    return sorted(path for path in CONF.glob("*.yaml") if path.stem != "custom")


@pytest.mark.parametrize("path", options(), ids=lambda path: path.stem)
def test_a_config_says_all_parameters_and_their_defaults(path):
    content = yaml.safe_load(path.read_text())
    module, name = content.pop("_target_").rsplit(".", 1)
    kind = getattr(importlib.import_module(module), name)
    assert set(content) == {f.name for f in fields(kind)}
    if "???" in content.values():
        return
    built = kind(**content)
    if path.stem != "from_flower":
        # A run needs a batch of 32 and a validation share per client, a caller of the class not.
        run = {"min_samples": 40} if "min_samples" in content else {}
        assert built == kind(**run)
        with pytest.raises((PartitionError, ParameterError), match=f"\\b{path.stem.split('_')[0]}"):
            built(np.zeros(0, dtype=np.int64), 2, np.random.default_rng(0))


def test_the_custom_config_asks_for_a_target():
    assert yaml.safe_load((CONF / "custom.yaml").read_text()) == {"_target_": "???"}


@pytest.mark.parametrize(
    "kind", [P.Dirichlet, P.DirichletCapped, P.DirichletInner, P.DirichletBalanced]
)
@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), "0.5", True, None])
def test_every_dirichlet_refuses_a_bad_alpha(kind, alpha):
    with pytest.raises(ParameterError, match=r"'alpha' parameter of dirichlet.*above 0"):
        kind(alpha=alpha)


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (P.Dirichlet, {"min_samples": 0}, "min_samples"),
        (P.DirichletCapped, {"min_samples": 2.0}, "min_samples"),
        (P.DirichletInner, {"min_samples": True}, "min_samples"),
        (P.DirichletInner, {"sizes": [10, 5]}, "sizes.*at least min_samples=40"),
        (P.DirichletInner, {"sizes": "10"}, "sizes"),
        (P.DirichletInner, {"sizes": [10.0, 20.0]}, "sizes"),
        (P.DirichletInner, {"sizes": 5}, "sizes.*an integer of at least min_samples=40"),
        (P.DirichletInner, {"sizes": 10.0}, "sizes"),
        (P.DirichletInner, {"sizes": True}, "sizes"),
        (P.DirichletBalanced, {"min_samples": -1}, "min_samples"),
        (P.Pathological, {"classes_per_client": 0}, "classes_per_client"),
        (P.Shards, {"shards_per_client": 1.5}, "shards_per_client"),
        (P.QuantityLogNormal, {"sigma": -0.1}, "sigma"),
        (P.QuantityLogNormal, {"sigma": float("nan")}, "sigma"),
        (P.QuantityPowerLaw, {"exponent": 101}, "at most 100"),
        (P.FeatureNoise, {"sigma": -1}, "sigma"),
        (P.FeatureRotation, {"max_degrees": 361}, "max_degrees"),
        (P.LabelGroups, {"num_groups": 0}, "num_groups"),
        (P.LabelGroups, {"classes_per_group": 0}, "classes_per_group"),
        (P.LabelGroups, {"leak": 1.1}, "leak"),
        (P.LabelGroups, {"leak": float("nan")}, "leak"),
    ],
)
def test_a_bad_hyperparameter_is_refused_when_it_is_given(kind, arguments, words):
    with pytest.raises(ParameterError, match=words):
        kind(**arguments)


@pytest.mark.parametrize(
    "kind",
    [
        P.Dirichlet,
        P.DirichletCapped,
        P.DirichletInner,
        P.DirichletBalanced,
        P.QuantityLogNormal,
        P.QuantityPowerLaw,
    ],
)
def test_min_samples_beyond_the_data_is_refused_before_any_draw(kind):
    with pytest.raises(PartitionError, match="got 100 samples, allowed: at least 110"):
        kind(min_samples=11)(np.arange(100) % 5, 10, np.random.default_rng(0))
