"""Only the most probable classes of each sample: k probabilities and whose they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.codec.floats import bytes_float, float_bytes
from fedfuse.codec.protocol import Layout
from fedfuse.codec.spaces import from_probabilities, to_probabilities
from fedfuse.shapes import Float, Int
from fedfuse.types import Space
from fedfuse.validation import require_count, require_flag, require_number, require_one_of


def largest(
    probs: Float[Tensor, "*batch C"], k: int
) -> tuple[Float[Tensor, "*batch k"], Int[Tensor, "*batch k"]]:
    """Return each row's ``k`` largest probabilities and their classes; ties to the lower class.

    >>> largest(torch.tensor([0.2, 0.4, 0.0, 0.4]), k=2)
    (tensor([0.4000, 0.4000]), tensor([1, 3]))
    """
    values, classes = probs.sort(dim=-1, descending=True, stable=True)
    return values[..., :k], classes[..., :k]


def fill(
    kept: Float[Tensor, "*batch k"],
    classes: Int[Tensor, "*batch k"],
    num_classes: int,
    rest: str,
) -> Float[Tensor, "*batch C"]:
    """Return whole distributions from their ``k`` largest entries.

    Args:
        kept: The probabilities that were sent.
        classes: Whose they are.
        num_classes: C.
        rest: ``spread`` shares what they leave of 1 equally among the other classes; ``drop``
            gives those 0 and scales the kept ones up to 1.

    >>> fill(torch.tensor([0.5, 0.3]), torch.tensor([1, 0]), 4, "spread")
    tensor([0.3000, 0.5000, 0.1000, 0.1000])
    >>> fill(torch.tensor([0.5, 0.3]), torch.tensor([1, 0]), 4, "drop")
    tensor([0.3750, 0.6250, 0.0000, 0.0000])
    """
    others = max(num_classes - kept.shape[-1], 1)
    left = (1 - kept.sum(dim=-1, keepdim=True)).clamp_min(0) / others
    background = left if rest == "spread" else torch.zeros_like(left)
    full = background.repeat(*[1] * (kept.dim() - 1), num_classes)
    full = full.scatter(-1, classes, kept)
    return full / full.sum(dim=-1, keepdim=True)


def class_bytes(num_classes: int) -> int:
    """Return the bytes of one class id, ``ceil(log2(C) / 8)`` and at least 1.

    >>> class_bytes(10), class_bytes(256), class_bytes(257)
    (1, 1, 2)
    """
    return max(1, -(-(num_classes - 1).bit_length() // 8))


@dataclass(frozen=True, slots=True)
class TopKCodes:
    """Send the ``k`` largest probabilities of each sample and their classes.

    ``k * (b + ceil(log2(C) / 8))`` bytes a sample, b being 4, or 2 with ``half``.

    Args:
        k: Classes kept; with fewer classes than that, all of them.
        rest: What becomes of the others: ``spread`` or ``drop``, see :func:`fill`.
        half: Send 2-byte floats.
        temperature: Of the softmax, where logits are sent.
    """

    k: int = 3
    rest: str = "spread"
    half: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_count("TopKCodes", "k", self.k)
        require_one_of("TopKCodes", "rest", self.rest, ("spread", "drop"))
        require_flag("TopKCodes", "half", self.half)
        require_number("TopKCodes", "temperature", self.temperature, above=0)

    @property
    def _float(self) -> torch.dtype:
        return torch.float16 if self.half else torch.float32

    def layout(self, num_classes: int, space: Space) -> Layout:  # noqa: ARG002
        """Return the bytes of k floats and k class ids."""
        kept = min(self.k, num_classes)
        return Layout(kept * (self._float.itemsize + class_bytes(num_classes)), 256)

    def to_symbols(self, values: Float[Tensor, "k P C"], space: Space) -> Tensor:
        """Return the bytes: the floats, then the class ids, lowest byte first."""
        kept, classes = largest(to_probabilities(values, space, self.temperature), self.k)
        shifts = 8 * torch.arange(class_bytes(values.shape[-1]), device=values.device)
        ids = (classes.unsqueeze(-1) >> shifts).bitwise_and(255).to(torch.uint8).flatten(-2)
        return torch.cat([float_bytes(kept, self._float), ids], dim=-1)

    def to_values(self, symbols: Tensor, space: Space, num_classes: int) -> Float[Tensor, "k P C"]:
        """Return distributions (or their logarithms) with the kept entries and the rest."""
        kept = min(self.k, num_classes)
        head = kept * self._float.itemsize
        probs = bytes_float(symbols[..., :head], self._float)
        ids = (
            symbols[..., head:].long().reshape(*symbols.shape[:-1], kept, class_bytes(num_classes))
        )
        shifts = 8 * torch.arange(ids.shape[-1], device=symbols.device)
        classes = (ids << shifts).sum(dim=-1).clamp_max(num_classes - 1)
        full = fill(probs, classes, num_classes, self.rest)
        return from_probabilities(full, space, self.temperature)
