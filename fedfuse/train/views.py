"""Augmentation of the samples that steps see: what is drawn is written down before, with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from fedfuse.declarations import part_name
from fedfuse.user_code import PartError, kind_of
from fedfuse.validation import require_count, require_number


class PrivateAugment(Protocol):
    """Change each sample anew every time that a step sees it.

    What is random is drawn apart from what is done with it, so that one client after the other or
    many at once see the same samples. One for images alone declares ``needs_images = True``.
    """

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Return what is drawn for so many samples, int64 or float32 [num, d]."""
        ...

    def __call__(self, inputs: Tensor, draws: Tensor, empty: Tensor) -> Tensor:
        """Return the samples as they are seen, of the same shape; those that came stay.

        Args:
            inputs: float32 [N, ...], ready for the model: those of one client, or of many.
            draws: What was drawn for each, [N, d], on their device.
            empty: What a black pixel is to the model, of each channel, float32 [channels].
        """
        ...


@dataclass(frozen=True, slots=True)
class CropFlip:
    """Crop at random after padding with black, and mirror (He et al., arXiv 1512.03385, CIFAR-10).

    Args:
        padding: Black pixels around an image, out of which one of its own size is cropped.
        flip: Probability of mirroring left and right; 0 for what has a side, as digits.
    """

    padding: int = 4
    flip: float = 0.5
    needs_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("CropFlip", "padding", self.padding, at_least=0)
        require_number("CropFlip", "flip", self.flip, at_least=0, at_most=1)

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Return how far each crop is down and to the right, and whether it is mirrored."""
        high = self.padding + 1
        moved = torch.randint(-self.padding, high, (num, 2), generator=generator)
        mirrored = torch.rand(num, 1, generator=generator) < self.flip
        return torch.cat([moved, mirrored.long()], dim=1)

    def __call__(self, inputs: Tensor, draws: Tensor, empty: Tensor) -> Tensor:
        """Return the crops, mirrored or not.

        >>> image, black = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.zeros(1)
        >>> CropFlip()(image, torch.tensor([[1, 0, 0]]), black).tolist()
        [[[[3.0, 4.0], [0.0, 0.0]]]]
        >>> CropFlip()(image, torch.tensor([[0, 0, 1]]), black).tolist()
        [[[[2.0, 1.0], [4.0, 3.0]]]]
        """
        height, width = inputs.shape[-2:]
        down, right, mirrored = draws.unbind(dim=1)
        column = torch.arange(width, device=inputs.device)
        column = torch.where(mirrored[:, None] > 0, width - 1 - column, column) + right[:, None]
        row = torch.arange(height, device=inputs.device) + down[:, None]
        rows = row.clamp(0, height - 1)[:, None, :, None].expand(-1, inputs.shape[1], -1, width)
        columns = column.clamp(0, width - 1)[:, None, None].expand_as(rows)
        seen = inputs.gather(2, rows).gather(3, columns)
        inside = ((row >= 0) & (row < height))[:, None, :, None]
        inside = inside & ((column >= 0) & (column < width))[:, None, None]
        return torch.where(inside, seen, empty[:, None, None])


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """How the steps of a piece of work see its samples.

    Args:
        augment: What changes them.
        draws: What was drawn for each sample in the order in which they are used, [n, d]; there
            may be more than are used.
        empty: What a black pixel is to the model, of each channel.
    """

    augment: PrivateAugment
    draws: Tensor
    empty: Sequence[float]

    def of(self, inputs: Tensor, draws: Tensor) -> Tensor:
        """Return inputs [N, ...] as they are seen with these draws [N, d]."""
        return self.augment(inputs, draws.to(inputs.device), _on(inputs.device, tuple(self.empty)))

    def alike(self, other: Views) -> bool:
        """Tell whether samples of both are changed the same way."""
        return self.augment == other.augment and tuple(self.empty) == tuple(other.empty)


@lru_cache(maxsize=8)
def _on(device: torch.device, values: tuple[float, ...]) -> Tensor:
    """Return numbers on a device, where a copy for every step would make it wait."""
    return torch.tensor(values, device=device)


def same_views(one: Views | None, other: Views | None) -> bool:
    """Tell whether the steps of two pieces of work see samples the same way."""
    if one is None or other is None:
        return one is other
    return one.alike(other)


def check_views(augment: PrivateAugment, inputs: Tensor) -> None:
    """Raise unless what is drawn and made of inputs [N, ...] is what :class:`PrivateAugment` says.

    Raises:
        PartError: Naming what it is instead.
    """
    what, num = f"The private_augment {part_name(augment)}", len(inputs)
    before = inputs.clone()
    draws = augment.draw(num, torch.Generator().manual_seed(0))
    if not isinstance(draws, Tensor) or draws.ndim != 2 or len(draws) != num:
        raise PartError(
            f"{what} did not draw a row for each sample",
            got=kind_of(draws),
            allowed=f"a tensor [{num}, d]",
        )
    made = augment(inputs, draws, torch.zeros(inputs.shape[1]))
    right = isinstance(made, Tensor) and (made.shape, made.dtype) == (inputs.shape, inputs.dtype)
    if not right or not bool(made.isfinite().all()):
        raise PartError(
            f"{what} did not return samples of the kind that it was given",
            got="NaN or infinite values" if right else kind_of(made),
            allowed=f"finite {inputs.dtype} of shape {list(inputs.shape)}",
        )
    if not torch.equal(inputs, before):
        raise PartError(f"{what} changed the samples that it was given", allowed="a copy")
