"""Lean on the teacher where the client's own predictions waver (ViDA, arXiv 2306.04344)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.arrival import Arrival
from fedfuse.fusion.homeostatic import teachers_share
from fedfuse.shapes import Float
from fedfuse.types import Teachers
from fedfuse.uptake.own_or_teacher import mixed
from fedfuse.validation import require_count, require_number


def spread(passes: Float[Tensor, "n k m C"], scale: float) -> Float[Tensor, "k m"]:
    """Return ``scale`` times the variance of logits over passes, in the mean over the classes.

    Unbiased, and not above 1.

    >>> spread(torch.tensor([[[[2.0, 0.0]]], [[[0.0, 0.0]]]]), scale=0.1)
    tensor([[0.1000]])
    """
    return (scale * passes.var(dim=0).mean(dim=-1)).clamp_max(1)


def look_again(
    inputs: Float[Tensor, "m ..."], generator: torch.Generator, shift: int, noise: float
) -> Float[Tensor, "m ..."]:
    """Return the samples as they might also have been seen.

    Pictures [m, channels, height, width] move by up to ``shift`` pixels each way, all of one pass
    alike, with their border repeated; every input gets normal noise of the deviation ``noise``.
    Features in a table or a vector, which cannot be moved, get the noise alone.
    """
    if inputs.ndim == 4 and shift > 0:
        down, right = torch.randint(2 * shift + 1, (2,), generator=generator).tolist()
        height, width = inputs.shape[-2:]
        padded = functional.pad(inputs, (shift,) * 4, mode="replicate")
        inputs = padded[..., down : down + height, right : right + width]
    drawn = torch.randn(inputs.shape, generator=generator).to(inputs.device)
    return inputs + noise * drawn


@dataclass(frozen=True, slots=True)
class Homeostatic:
    """Mix own and teacher by how much the client's predictions differ from look to look.

    The uncertainty U of a sample is ``scale`` times the variance of the client's logits over
    ``passes`` slightly changed copies. ``target = ((1 + U) teacher + (1 - U) own) / 2`` where U is
    at least ``threshold``, and the other way round elsewhere. In the authors' code the two are
    adapters of a network; on targets: ours. The changed copies are drawn from the run's stream for
    the round, the same for all clients.

    Args:
        passes: Copies, at least two.
        threshold: Theta; the authors' is 0.2, and 0.05 for CIFAR.
        scale: Of the variance, before it is compared.
        shift: Pixels by which a picture moves, at most.
        noise: Deviation of the noise, where the training data's is 1.
        temperature: Of the client's own softmax.
    """

    passes: int = 10
    threshold: float = 0.2
    scale: float = 0.1
    shift: int = 1
    noise: float = 0.05
    temperature: float = 1.0

    needs_numbers: ClassVar[bool] = True
    """Of texts nothing can be calculated."""

    def __post_init__(self) -> None:
        require_count("Homeostatic", "passes", self.passes, at_least=2)
        require_number("Homeostatic", "threshold", self.threshold, at_least=0, at_most=1)
        require_number("Homeostatic", "scale", self.scale, at_least=0)
        require_count("Homeostatic", "shift", self.shift, at_least=0)
        require_number("Homeostatic", "noise", self.noise, at_least=0)
        require_number("Homeostatic", "temperature", self.temperature, above=0)

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers:
        """Return the teachers, with targets mixed of theirs and the clients' own."""
        generator = at.streams.torch("public", "uptake", at.round)
        seen = torch.stack(
            [
                at.ask(look_again(at.inputs, generator, self.shift, self.noise))
                for _ in range(self.passes)
            ]
        )
        uncertainty = spread(seen, self.scale)
        at.report["uncertainty"] = uncertainty.mean(dim=1)
        share = teachers_share(uncertainty, self.threshold)
        return mixed(teachers, at, share, self.temperature)
