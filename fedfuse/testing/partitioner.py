"""Check a partitioner on inputs that its author may not have thought of."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from fedfuse.declarations import part_name
from fedfuse.errors import ParameterError, PartitionError
from fedfuse.partition.check import validate_partition
from fedfuse.partition.repair import RepairWarning
from fedfuse.protocols import Partitioner, ShiftsFeatures
from fedfuse.testing.expect import expect_declared
from fedfuse.testing.failed import CheckFailed, expect_that
from fedfuse.testing.randomness import global_randomness_untouched
from fedfuse.testing.transform import check_transforms
from fedfuse.types import IntArray

_SEED = 0


@dataclass(frozen=True, slots=True)
class _Case:
    """One input: ``labels`` are rebuilt from it in words."""

    words: str
    labels: IntArray
    num_clients: int

    def __str__(self) -> str:
        return (
            f"{self.words}: {len(self.labels)} labels, num_clients={self.num_clients}, "
            f"rng=numpy.random.default_rng({_SEED})"
        )


def _cases() -> list[_Case]:
    """Return the battery, from the plain to the awkward."""
    shuffle = np.random.default_rng(1).permutation
    balanced = np.repeat(np.arange(10), 200)
    skewed = np.repeat(np.arange(10), [1000, 500, 250, 120, 60, 30, 16, 8, 4, 2])
    return [
        _Case("10 equal classes in random order", shuffle(balanced), 20),
        _Case("10 equal classes sorted by label", balanced, 10),
        _Case("two clients", shuffle(balanced), 2),
        _Case("one client", shuffle(balanced), 1),
        _Case("classes of very different sizes", shuffle(skewed), 20),
        _Case("class ids with gaps (3, 5, 9)", shuffle(np.repeat([3, 5, 9], 100)), 5),
        _Case("one class only", np.zeros(400, dtype=np.int64), 4),
        _Case("few samples", np.array([2, 0, 1, 0, 2, 1, 1, 0]), 3),
    ]


def check_partitioner(partitioner: Partitioner) -> None:
    """Run ``partitioner`` over a battery of inputs; silent if it keeps its contract.

    It must return one array of integers per client, disjoint, within range and none empty; return
    the same for the same generator state; and leave the labels and the global random state alone.
    If it has a ``transform`` method (feature shift), each client's transform must be picklable,
    deterministic and keep shape and finiteness. To refuse an input with a ``PartitionError`` or
    ``ParameterError`` is fine, as long as it accepts one.

    Args:
        partitioner: A function or object as in :class:`fedfuse.protocols.Partitioner`.

    Raises:
        CheckFailed: If a contract is broken, saying which one, on what input.

    >>> check_partitioner(lambda labels, k, rng: np.array_split(rng.permutation(len(labels)), k))
    """
    name = part_name(partitioner)
    expect_declared(name, partitioner, "partitioner")
    refusals = []
    for case in _cases():
        try:
            first = _run(partitioner, name, case)
        except (PartitionError, ParameterError) as refusal:
            refusals.append(f"{case.words}: {refusal}")
            continue
        second = _run(partitioner, name, case)
        same = len(first) == len(second) and all(map(np.array_equal, first, second))
        expect_that(
            same,
            f"{name} is not reproducible",
            given=f"{case}, twice",
            got="two different partitions",
            expected="the same parts, all chance drawn from rng and nothing kept between calls",
        )
    if len(refusals) == len(_cases()):
        raise CheckFailed(
            f"{name} refused every input",
            given=f"{len(refusals)} different label arrays",
            got=refusals[0],
            expected="at least one partition; relax its parameters for the check",
        )
    if isinstance(partitioner, ShiftsFeatures):
        check_transforms(partitioner, name)


def _run(partitioner: Partitioner, name: str, case: _Case) -> list[IntArray]:
    """Return the checked parts of one case; a refusal in words passes through."""
    labels = case.labels.copy()
    given = str(case)
    with global_randomness_untouched(name, given), warnings.catch_warnings():
        warnings.simplefilter("ignore", RepairWarning)
        try:
            parts = partitioner(labels, case.num_clients, np.random.default_rng(_SEED))
        except (PartitionError, ParameterError):
            raise
        except Exception as error:
            raise CheckFailed(
                f"{name} crashed",
                given=given,
                got=f"{type(error).__name__}: {error}",
                expected="a partition, or a PartitionError that says what it cannot do",
            ) from error
    expect_that(
        np.array_equal(labels, case.labels),
        f"{name} changes the labels it was given",
        given=given,
        got="labels with other values after the call",
        expected="the same labels; work on labels.copy()",
    )
    try:
        return validate_partition(parts, len(labels), case.num_clients)
    except PartitionError as error:
        raise CheckFailed(
            f"{name} returned no valid partition",
            given=given,
            got=str(error),
            expected=f"{case.num_clients} arrays of integers from 0 to {len(labels) - 1}, "
            "disjoint, none empty",
        ) from None
