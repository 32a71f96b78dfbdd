"""What changes a round's public samples, and how one is held to its contract."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.user_code import PartError, kind_of


class Augmented(NamedTuple):
    """A round's public samples after an augmentation.

    Args:
        inputs: Model inputs float32 [m, ...], of the shape and on the device of those that came.
        labels_kept: Whether the label of a sample still holds of what was made of it.
    """

    inputs: Tensor
    labels_kept: bool = True


class Augment(Protocol):
    """Change the public samples of a round before everybody answers.

    Gets their model inputs float32 [m, ...] (images normalised) and the generator of the round,
    which is on the CPU and the same on server and clients: what is random is drawn from it alone,
    so that all sides make the same samples and nothing travels. Inputs are left as they are.

    One that does not keep labels declares ``labels_kept = False``: nobody knows the round's public
    labels then. One with ``lesson_only = True`` changes what is learned from and not what is asked:
    clients answer for the samples as they were, and learn these answers from the changed ones.
    """

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Augmented:
        """Return the changed samples."""
        ...


def augmented(
    part: Any, inputs: Tensor, generator: torch.Generator, sent: Tensor | None = None
) -> Tensor:
    """Return what an augmentation makes of inputs [m, ...].

    Args:
        part: An :class:`Augment`, or a :class:`~fedfuse.augment.Guided` one.
        inputs: The samples.
        generator: Of the round.
        sent: What the server says of the samples, for one that declares ``needs_student``.

    Raises:
        PartError: If it breaks a promise of :class:`Augment`.
    """
    told = (sent,) if declared(part, "needs_student", False) else ()
    made = part(inputs, generator, *told)
    what = f"The augmentation {part_name(part)}"
    if not isinstance(made, Augmented):
        raise PartError(
            f"{what} did not return augmented samples",
            got=kind_of(made),
            allowed="a fedfuse.augment.Augmented",
        )
    new = made.inputs
    right = isinstance(new, Tensor) and (new.shape, new.dtype) == (inputs.shape, inputs.dtype)
    if not right or not bool(new.isfinite().all()):
        raise PartError(
            f"{what} did not return samples of the public set's kind",
            got="NaN or infinite values" if right else kind_of(new),
            allowed=f"finite {inputs.dtype} of shape {list(inputs.shape)}",
        )
    if declared(part, "labels_kept", True) and not made.labels_kept:
        raise PartError(
            f"{what} did not keep the labels and does not say so beforehand",
            got="labels_kept=False in what it returned",
            next_step="Let it declare labels_kept = False.",
        )
    return new
