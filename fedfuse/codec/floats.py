"""Numbers as they are: 4 bytes each, or 2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.codec.protocol import Layout
from fedfuse.shapes import Float
from fedfuse.types import Space


def float_bytes(values: Float[Tensor, "*batch n"], dtype: torch.dtype) -> Tensor:
    """Return the numbers' bytes in memory order, uint8 [..., n * bytes of the dtype].

    >>> float_bytes(torch.tensor([1.0]), torch.float32)
    tensor([  0,   0, 128,  63], dtype=torch.uint8)
    """
    limits = torch.finfo(dtype)
    # Beyond its range a 2-byte number would become infinite; the largest one is nearer.
    return values.clamp(limits.min, limits.max).to(dtype).contiguous().view(torch.uint8)


def bytes_float(symbols: Tensor, dtype: torch.dtype) -> Float[Tensor, "*batch n"]:
    """Return the numbers of :func:`float_bytes`, as float32."""
    # A slice may start in the middle of a number's alignment; a copy does not.
    return symbols.clone(memory_format=torch.contiguous_format).view(dtype).float()


@dataclass(frozen=True, slots=True)
class Float32:
    """Send every number in 4 bytes, without loss: the identity."""

    def layout(self, num_classes: int, space: Space) -> Layout:  # noqa: ARG002
        """Return 4 bytes per class."""
        return Layout(4 * num_classes, 256)

    def to_symbols(self, values: Float[Tensor, "k P C"], space: Space) -> Tensor:  # noqa: ARG002
        """Return the bytes [k, P, 4 C]."""
        return float_bytes(values, torch.float32)

    def to_values(
        self,
        symbols: Tensor,
        space: Space,  # noqa: ARG002
        num_classes: int,  # noqa: ARG002
    ) -> Float[Tensor, "k P C"]:
        """Return the very same numbers."""
        return bytes_float(symbols, torch.float32)


@dataclass(frozen=True, slots=True)
class Float16:
    """Send every number in 2 bytes (IEEE half precision).

    The relative error is at most 2**-11, the absolute one at most 2**-25 near zero; numbers beyond
    65504 become 65504. Probabilities are renormalised by the receiver.
    """

    def layout(self, num_classes: int, space: Space) -> Layout:  # noqa: ARG002
        """Return 2 bytes per class."""
        return Layout(2 * num_classes, 256)

    def to_symbols(self, values: Float[Tensor, "k P C"], space: Space) -> Tensor:  # noqa: ARG002
        """Return the bytes [k, P, 2 C]."""
        return float_bytes(values, torch.float16)

    def to_values(
        self,
        symbols: Tensor,
        space: Space,
        num_classes: int,  # noqa: ARG002
    ) -> Float[Tensor, "k P C"]:
        """Return the rounded numbers."""
        values = bytes_float(symbols, torch.float16)
        if space is Space.LOGITS:
            return values
        return values / values.sum(dim=-1, keepdim=True)
