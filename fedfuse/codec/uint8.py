"""One byte per class: 256 levels between a row's own extremes, or between 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.codec.floats import bytes_float, float_bytes
from fedfuse.codec.protocol import Layout
from fedfuse.shapes import Float
from fedfuse.types import Space

LEVELS = 255
_AFFINE_BYTES = 8


def affine(
    values: Float[Tensor, "*batch C"],
) -> tuple[Tensor, Float[Tensor, "*batch 1"], Float[Tensor, "*batch 1"]]:
    """Return ``round((z - low) / step)`` as uint8 [..., C], and ``low`` and ``step`` of each row.

    ``low`` is the row's smallest value and ``step`` a 255th of its range, so the error is at most
    half a step. A constant row has step 0 and code 0.

    >>> affine(torch.tensor([[-1.0, 0.0, 4.1]]))
    (tensor([[  0,  50, 255]], dtype=torch.uint8), tensor([[-1.]]), tensor([[0.0200]]))
    """
    z = values.double()
    low = z.amin(dim=-1, keepdim=True)
    # The receiver's step is float32; rounding with that one keeps the error at half a step.
    step = ((z.amax(dim=-1, keepdim=True) - low) / LEVELS).float()
    levels = torch.where(step > 0, (z - low) / step.double(), 0).round().clamp(0, LEVELS)
    return levels.to(torch.uint8), low.float(), step


def fixed(probs: Float[Tensor, "*batch C"]) -> Tensor:
    """Return ``round(255 p)`` as uint8 [..., C]."""
    return (probs.double() * LEVELS).round().clamp(0, LEVELS).to(torch.uint8)


def fixed_values(levels: Tensor) -> Float[Tensor, "*batch C"]:
    """Return the levels [..., C] divided by their sum; a row of zeros is uniform.

    Each level is off by at most 1/510 before the division. Rows with very many classes, none
    above 1/510, lose everything: use :class:`fedfuse.codec.Quantize`, whose rows always sum to 1.
    """
    total = levels.sum(dim=-1, keepdim=True, dtype=torch.float32)
    return torch.where(total > 0, levels.float() / total.clamp_min(1), 1 / levels.shape[-1])


@dataclass(frozen=True, slots=True)
class UInt8:
    """Send one byte per class: affine per row for logits (8 bytes more), 0 to 1 for others."""

    def layout(self, num_classes: int, space: Space) -> Layout:
        """Return a byte per class, and two floats per row of logits."""
        more = _AFFINE_BYTES if space is Space.LOGITS else 0
        return Layout(num_classes + more, 256)

    def to_symbols(self, values: Float[Tensor, "k P C"], space: Space) -> Tensor:
        """Return the bytes [k, P, C] or [k, P, 8 + C]."""
        if space is Space.PROBABILITIES:
            return fixed(values)
        levels, low, step = affine(values)
        head = float_bytes(torch.cat([low, step], dim=-1), torch.float32)
        return torch.cat([head, levels], dim=-1)

    def to_values(
        self,
        symbols: Tensor,
        space: Space,
        num_classes: int,  # noqa: ARG002
    ) -> Float[Tensor, "k P C"]:
        """Return the values in the middle of each level's interval."""
        if space is Space.PROBABILITIES:
            return fixed_values(symbols)
        head = bytes_float(symbols[..., :_AFFINE_BYTES], torch.float32).double()
        levels = symbols[..., _AFFINE_BYTES:].double()
        return (head[..., :1] + head[..., 1:] * levels).float()
