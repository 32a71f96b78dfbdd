"""Check a partitioner on inputs that its author may not have thought of."""

from __future__ import annotations

import functools
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from fedfuse.errors import ParameterError, PartitionError
from fedfuse.partition.check import validate_partition
from fedfuse.partition.repair import RepairWarning
from fedfuse.protocols import Partitioner, ShiftsFeatures
from fedfuse.testing.failed import CheckFailed
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
    name = _name(partitioner)
    refusals = []
    for case in _cases():
        try:
            first = _run(partitioner, name, case)
        except (PartitionError, ParameterError) as refusal:
            refusals.append(f"{case.words}: {refusal}")
            continue
        second = _run(partitioner, name, case)
        same = len(first) == len(second) and all(map(np.array_equal, first, second))
        _expect(
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
        _check_transforms(partitioner, name)


def _run(partitioner: Partitioner, name: str, case: _Case) -> list[IntArray]:
    """Return the checked parts of one case; a refusal in words passes through."""
    labels = case.labels.copy()
    given = str(case)
    with _global_randomness_untouched(name, given), warnings.catch_warnings():
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
    _expect(
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


def _check_transforms(partitioner: ShiftsFeatures, name: str) -> None:
    """Raise unless every client's transform is deterministic, picklable and keeps the shape."""
    inputs = torch.randint(0, 256, (4, 3, 8, 6), generator=torch.Generator().manual_seed(_SEED))
    images = inputs.float()
    for client in range(3):
        given = f"transform({client}, num_clients=3, seed=0) on float images [4, 3, 8, 6]"
        with _global_randomness_untouched(name, given):
            transform = partitioner.transform(client, 3, 0)
            if transform is None:
                continue
            kept = images.clone()
            once = transform(images)
            again = _pickled(transform, name, given)(images)
            part = transform(images[1:3])
        promises: list[tuple[bool, str, str]] = [
            (torch.equal(images, kept), "changed inputs", "the inputs untouched"),
            (
                once.shape == images.shape and once.is_floating_point(),
                f"{once.dtype} of shape {list(once.shape)}",
                "floats of the same shape",
            ),
            (bool(torch.isfinite(once).all()), "values that are not finite", "finite values"),
            (
                bool(((once >= 0) & (once <= 255)).all()),
                f"values from {once.min():g} to {once.max():g}",
                "values from 0 to 255",
            ),
            (
                torch.equal(once, again),
                "another result after pickling",
                "the same output for the same input in every process",
            ),
            (
                part.shape == once[1:3].shape and torch.allclose(part, once[1:3], atol=1e-3),
                "another result for an image when it comes in another batch",
                "an output that depends on the image and the client only",
            ),
        ]
        for ok, got, expected in promises:
            _expect(ok, f"{name} gives a bad transform", given=given, got=got, expected=expected)


def _pickled(
    transform: Callable[[torch.Tensor], torch.Tensor], name: str, given: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a copy that went through pickle, as it does on its way to another process."""
    try:
        copy: Callable[[torch.Tensor], torch.Tensor] = pickle.loads(pickle.dumps(transform))  # noqa: S301
    except Exception as error:
        raise CheckFailed(
            f"{name} gives a transform that cannot be pickled",
            given=given,
            got=f"{type(error).__name__}: {error}",
            expected="an object of a module-level class or a functools.partial, not a lambda",
        ) from error
    return copy


@contextmanager
def _global_randomness_untouched(name: str, given: str) -> Iterator[None]:
    """Raise if the block moves a global random state; put it back either way."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    torch_state = torch.random.get_rng_state()
    before = pickle.dumps(numpy_state)
    moved = []
    try:
        yield
        if pickle.dumps(np.random.get_state()) != before:  # noqa: NPY002
            moved.append("numpy.random")
        if random.getstate() != python_state:
            moved.append("random")
        if not torch.equal(torch.random.get_rng_state(), torch_state):
            moved.append("torch")
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        torch.random.set_rng_state(torch_state)
    _expect(
        not moved,
        f"{name} uses a global random generator",
        given=given,
        got=f"the global state of {', '.join(moved)} moved",
        expected="every random number drawn from the rng argument, as in rng.permutation(n)",
    )


def _expect(ok: bool, what: str, *, given: str, got: str, expected: str) -> None:
    """Raise CheckFailed unless ``ok``."""
    if not ok:
        raise CheckFailed(what, given=given, got=got, expected=expected)


def _name(part: object) -> str:
    """Return what the author calls the part."""
    if isinstance(part, functools.partial):
        return _name(part.func)
    return str(getattr(part, "__name__", None) or repr(part))
