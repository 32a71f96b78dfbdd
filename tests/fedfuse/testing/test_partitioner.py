"""check_partitioner finds each broken contract, and says which one."""

import functools
import importlib.util
import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from fedfuse.errors import PartitionError
from fedfuse.testing import CheckFailed, check_partitioner

EXAMPLES = Path(__file__).parents[3] / "examples"


def good(labels, num_clients, rng):
    return np.array_split(rng.permutation(len(labels)), num_clients)


def overlaps(labels, num_clients, rng):
    parts = good(labels, num_clients, rng)
    return [np.append(parts[0], parts[-1][0]), *parts[1:]] if num_clients > 1 else parts


def leaves_one_empty(labels, num_clients, rng):
    return [*good(labels, num_clients - 1, rng), []] if num_clients > 1 else [[0]]


def one_too_many(labels, num_clients, rng):
    return good(labels, num_clients + 1, rng)


def returns_floats(labels, num_clients, rng):
    return [part.astype(float) for part in good(labels, num_clients, rng)]


def returns_labels_beyond(labels, num_clients, rng):
    return [part + 1 for part in good(labels, num_clients, rng)]


def returns_nothing(labels, num_clients, rng):
    good(labels, num_clients, rng)


def has_its_own_seed(labels, num_clients, rng):
    return good(labels, num_clients, np.random.default_rng())


def sorts_in_place(labels, num_clients, rng):
    labels.sort()
    return good(labels, num_clients, rng)


def uses_numpy_global(labels, num_clients, rng):
    return np.array_split(np.random.permutation(len(labels)), num_clients)  # noqa: NPY002


def uses_python_global(labels, num_clients, rng):
    random.random()
    return good(labels, num_clients, rng)


def uses_torch_global(labels, num_clients, rng):
    torch.rand(1)
    return good(labels, num_clients, rng)


def seeds_numpy_global(labels, num_clients, rng):
    np.random.seed(len(labels))  # noqa: NPY002
    return good(labels, num_clients, rng)


def believes_in_ten_classes(labels, num_clients, rng):
    return [np.flatnonzero(labels == c) for c in range(10)]


def divides_by_clients_less_one(labels, num_clients, rng):
    return [None] * (1 // (num_clients - 1))


def refuses_everything(labels, num_clients, rng):
    raise PartitionError("Not today")


@pytest.mark.parametrize(
    ("partitioner", "words"),
    [
        (overlaps, "no valid partition.*both hold sample"),
        (leaves_one_empty, "no valid partition.*without any sample"),
        (one_too_many, "no valid partition.*got 21 parts"),
        (returns_floats, "no valid partition.*float64"),
        (returns_labels_beyond, "no valid partition.*is no sample"),
        (returns_nothing, "no valid partition.*end with a return"),
        (has_its_own_seed, "not reproducible.*drawn from rng"),
        (sorts_in_place, "changes the labels"),
        (uses_numpy_global, "global random generator.*state of numpy.random moved"),
        (uses_python_global, "global random generator.*state of random moved"),
        (uses_torch_global, "global random generator.*state of torch moved"),
        (seeds_numpy_global, "global random generator.*numpy.random"),
        (believes_in_ten_classes, "no valid partition.*got 10 parts"),
        (divides_by_clients_less_one, "no valid partition"),
        (refuses_everything, "refused every input.*Not today"),
    ],
)
def test_each_broken_contract_is_named_with_its_input(partitioner, words):
    with pytest.raises(CheckFailed, match=f"(?s){partitioner.__name__} .*{words}") as caught:
        check_partitioner(partitioner)
    assert "given: " in str(caught.value)
    assert "expected: " in str(caught.value)


def test_a_crash_is_told_with_its_error_and_its_input():
    def needs_two(labels, num_clients, rng):
        if num_clients == 1:
            raise ZeroDivisionError("one client")
        return good(labels, num_clients, rng)

    words = "(?s)needs_two crashed.*num_clients=1.*ZeroDivisionError: one client"
    with pytest.raises(CheckFailed, match=words):
        check_partitioner(needs_two)


def test_a_state_kept_between_calls_is_found():
    kept = []

    def remembers(labels, num_clients, rng):
        kept.append(1)
        return [np.roll(part, len(kept)) for part in good(labels, num_clients, rng)]

    with pytest.raises(CheckFailed, match="not reproducible"):
        check_partitioner(remembers)


def test_good_ones_pass_and_leave_the_global_state_alone():
    def states():
        numpy_state = pickle.dumps(np.random.get_state())  # noqa: NPY002
        return numpy_state, random.getstate(), torch.get_rng_state().tolist()

    before = states()
    check_partitioner(good)
    check_partitioner(functools.partial(good))
    with pytest.raises(CheckFailed):
        check_partitioner(uses_numpy_global)
    assert states() == before


def test_to_refuse_some_inputs_in_words_is_fine():
    def only_ten_classes(labels, num_clients, rng):
        if len(np.unique(labels)) != 10:
            raise PartitionError("This partitioner is for ten classes")
        return good(labels, num_clients, rng)

    check_partitioner(only_ten_classes)


@dataclass(frozen=True)
class Add:
    amount: float
    in_place: bool = False
    by_place: bool = False

    def __call__(self, inputs):
        if self.in_place:
            return inputs.mul_(0)
        if self.by_place:
            return (inputs + torch.arange(len(inputs)).reshape(-1, 1, 1, 1)).clamp(0, 255)
        return inputs * 0 + self.amount


class Coin:
    def __call__(self, inputs):
        return inputs * 0 + random.Random().random()


@dataclass(frozen=True)
class Shifting:
    make: object

    def __call__(self, labels, num_clients, rng):
        return good(labels, num_clients, rng)

    def transform(self, client_id, num_clients, seed):
        return self.make(client_id)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda k: lambda x: x, "cannot be pickled"),
        (lambda k: Add(300.0), "values from 300 to 300"),
        (lambda k: Add(float("nan")), "not finite"),
        (lambda k: Add(0.0, in_place=True), "changed inputs"),
        (lambda k: Add(0.0, by_place=True), "comes in another batch"),
        (lambda k: Coin(), "another result after pickling"),
        (lambda k: torch.flatten, r"shape \[576\]"),
        (lambda k: torch.rand(1) and None, "global random generator"),
    ],
)
def test_a_bad_transform_is_named(make, words):
    with pytest.raises(CheckFailed, match=words):
        check_partitioner(Shifting(make))


def test_a_good_transform_or_none_passes():
    check_partitioner(Shifting(lambda k: Add(7.0) if k else None))


def test_the_example_of_the_docs_keeps_the_contract_and_does_what_it_says():
    spec = importlib.util.spec_from_file_location("my_partitioner", EXAMPLES / "my_partitioner.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    check_partitioner(module.by_halves)
    labels = np.arange(100) % 10
    parts = module.by_halves(labels, 4, np.random.default_rng(0))
    assert {int(c) for part in parts[:2] for c in labels[part]} == {0, 1, 2, 3, 4}
    assert {int(c) for part in parts[2:] for c in labels[part]} == {5, 6, 7, 8, 9}
