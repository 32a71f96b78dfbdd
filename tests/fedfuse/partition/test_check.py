"""The one place that says what a valid partition is."""

import numpy as np
import pytest

from fedfuse.errors import PartitionError
from fedfuse.partition.check import validate_partition


def test_a_valid_partition_comes_back_as_int64_copies_in_order():
    mine = np.array([4, 0], dtype=np.int32)
    parts = validate_partition([mine, [2], (1, 3)], num_samples=6, num_clients=3)
    assert [part.tolist() for part in parts] == [[4, 0], [2], [1, 3]]
    assert {part.dtype for part in parts} == {np.dtype(np.int64)}
    parts[0][0] = 5
    assert mine[0] == 4


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (None, "got None.*end with a return"),
        (7, "got a int"),
        ({0: [0], 1: [1]}, "got a dict"),
        ("01", "got a str"),
        ([[0]], "got 1 parts, allowed: one per client, 2"),
        ([[0], [1], [2]], "got 3 parts"),
        ([[0], [1.0]], "client 1 .* float64"),
        ([[True, False], [1]], "client 0 .*flatnonzero"),
        ([[[0]], [1]], r"client 0 .* shape \[1, 1\]"),
        ([[0], ["1"]], "client 1 is not a list"),
        ([[0], 1], r"client 1 .* shape \[\]"),
        ([[0], [[1], [2, 3]]], "client 1 is not a list"),
        ([[0], [5]], "client 1 .*got 5, allowed: 0 to 4"),
        ([[0], [-1]], "client 1 .*got -1"),
        ([[0, 3], [3, 1]], "Clients 0 and 1 both hold sample 3"),
        ([[0, 2, 2], [1]], "Client 0 holds sample 2 2 times"),
        ([[0], []], "got empty clients 1,"),
    ],
)
def test_each_broken_promise_has_its_own_words(parts, words):
    with pytest.raises(PartitionError, match=words):
        validate_partition(parts, num_samples=5, num_clients=2)


def test_many_empty_clients_are_counted_not_listed():
    with pytest.raises(PartitionError, match="0, 1, 2, 3, 4 and 4 more"):
        validate_partition([[]] * 9 + [[0]], num_samples=5, num_clients=10)


def test_an_overlap_names_the_two_clients_that_share():
    with pytest.raises(PartitionError, match="Clients 1 and 3 both hold sample 2: got 2 repeated"):
        validate_partition([[0], [2, 4], [1], [4, 2, 3]], num_samples=5, num_clients=4)
