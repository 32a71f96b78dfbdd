"""Averaging over widths: models are averaged at the smallest width and pulled towards it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.errors import ModelError
from fedfuse.layout import Layout
from fedfuse.merge.mean import Mean, weighted_average
from fedfuse.merge.protocol import Vectors
from fedfuse.merge.widths import Stack, narrowed, stack_of, widened
from fedfuse.shapes import Float
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Coalesce:
    """``(1 - a) model + a widened(mean of the narrowed models)``, over architectures of all widths.

    Coalescing, de-coalescing and interpolation are those of a multi-level framework for training
    (Zou et al. 2024, arXiv 2404.07999), there one model and its own narrow copy. Each client gets
    its own model, moved; one that sent nothing gets its architecture's mean in the place of its
    own.

    Args:
        interpolate: a, from 0 (nothing is shared) to 1, at which neighbouring units of wide
            models become copies of one another and learn alike from then on.
    """

    interpolate: float = 0.25
    needs_base: ClassVar[bool] = False
    personal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Coalesce", "interpolate", self.interpolate, at_least=0, at_most=1)

    def misfit(self, layouts: Mapping[str, Layout]) -> str | None:
        """Return in words which architectures are no stacks of one form whose widths divide."""
        stacks = _stacks(layouts)
        if isinstance(stacks, str):
            return stacks
        for units in zip(*(stack.widths for stack in stacks), strict=True):
            if odd := [width for width in units if width % min(units)]:
                return f"hidden layers of {odd[0]} and {min(units)} units, which do not divide"
        return None

    def __call__(self, models: Vectors, receivers: Tensor) -> Float[Tensor, "R N"]:
        """Return a row for each receiver, where there is one architecture."""
        return self.across([models], [receivers])[0]

    def across(
        self, groups: Sequence[Vectors], receivers: Sequence[Tensor]
    ) -> list[Float[Tensor, "_ N"]]:
        """Return a row for each receiver of every architecture.

        Raises:
            ModelError: If they cannot be mapped to one another (:meth:`misfit`).
        """
        stacks = _stacks({group.architecture: group.layout for group in groups})
        if isinstance(stacks, str):
            raise ModelError("The merge coalesce cannot merge these models", got=stacks)
        # Of all architectures the smallest; of those that are there in this round what divides.
        widths = [math.gcd(*units) for units in zip(*(s.widths for s in stacks), strict=True)]
        means = [Mean()(group, who)[0] for group, who in zip(groups, receivers, strict=True)]
        # Narrowing is linear: the mean of an architecture is narrowed, not each of its models.
        narrow = [
            narrowed(stack, _tensors(group, mean), widths)
            for stack, group, mean in zip(stacks, groups, means, strict=True)
        ]
        sizes = torch.tensor([group.total for group in groups], dtype=torch.float64)
        shared = weighted_average(narrow, sizes / sizes.sum())
        made = []
        for stack, group, mean, who in zip(stacks, groups, means, receivers, strict=True):
            wide = widened(stack, shared, widths)
            names = [name for name, *_ in group.layout.entries]
            towards = torch.cat([wide[name].reshape(-1) for name in names])
            own = mean.double().repeat(len(who), 1)
            sent = torch.isin(who, group.client_ids)
            own[sent] = group.vectors[torch.isin(group.client_ids, who)].double()
            made.append(torch.lerp(own, towards, self.interpolate).float())
        return made


def _stacks(layouts: Mapping[str, Layout]) -> list[Stack] | str:
    """Return architectures as stacks of one form, or in words why they are none."""
    stacks: list[Stack] = []
    for name, layout in layouts.items():
        if (stack := stack_of(layout)) is None:
            return f"{name}, which is no plain stack of layers that read one another"
        if stacks and stack.form != stacks[0].form:
            first = next(iter(layouts))
            return f"{first} and {name}, which differ in more than the width of hidden layers"
        stacks.append(stack)
    return stacks


def _tensors(group: Vectors, vector: Float[Tensor, " N"]) -> dict[str, Tensor]:
    """Return a vector's tensors in float64."""
    return {name: part.double() for name, part in group.layout.unflatten(vector).items()}
