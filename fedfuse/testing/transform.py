"""Check the feature shift that a partitioner gives its clients."""

from __future__ import annotations

import pickle

import torch

from fedfuse.protocols import ShiftsFeatures
from fedfuse.testing.failed import CheckFailed, expect_that
from fedfuse.testing.randomness import global_randomness_untouched
from fedfuse.types import Transform


def check_transforms(partitioner: ShiftsFeatures, name: str) -> None:
    """Raise unless every client's transform is deterministic, picklable and keeps the shape."""
    inputs = torch.randint(0, 256, (4, 3, 8, 6), generator=torch.Generator().manual_seed(0))
    images = inputs.float()
    for client in range(3):
        given = f"transform({client}, num_clients=3, seed=0) on float images [4, 3, 8, 6]"
        with global_randomness_untouched(name, given):
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
            expect_that(
                ok, f"{name} gives a bad transform", given=given, got=got, expected=expected
            )


def _pickled(transform: Transform, name: str, given: str) -> Transform:
    """Return a copy that went through pickle, as it does on its way to another process."""
    try:
        copy: Transform = pickle.loads(pickle.dumps(transform))  # noqa: S301
    except Exception as error:
        raise CheckFailed(
            f"{name} gives a transform that cannot be pickled",
            given=given,
            got=f"{type(error).__name__}: {error}",
            expected="an object of a module-level class or a functools.partial, not a lambda",
        ) from error
    return copy
