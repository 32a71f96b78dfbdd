"""The geometric median of each sample's predictions, found by Weiszfeld's iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.robust.receivers import fuse_clouds
from fedfuse.shapes import Bool, Float
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_count, require_number

_NEAREST = 1e-6
"""Distances below this count as this, so that a median on top of a prediction is no 1 / 0."""


def geometric_median(
    probs: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"],
    mask: Bool[Tensor, "J P"] | None = None,
    iterations: int = 20,
    tolerance: float = 1e-4,
) -> Float[Tensor, "K P C"]:
    """Return, per sample, the y that minimises ``sum_j w_kj |p_j - y|_2``.

    A convex mixture of the predictions, hence on the simplex; tolerates wrong sources of a total
    weight below one half. Each iterates until it would move by no more than ``tolerance`` in any
    class, or ``iterations`` times.

    >>> p = torch.tensor([0.1, 0.2, 0.9])
    >>> probs = torch.stack([p, 1 - p], 1).unsqueeze(1)
    >>> geometric_median(probs, torch.full((1, 3), 1 / 3)).round(decimals=2)
    tensor([[[0.2000, 0.8000]]])
    """

    def core(
        points: Float[Tensor, "P J C"], base: Float[Tensor, "P U J"]
    ) -> Float[Tensor, "P U C"]:
        squares = points.square().sum(dim=-1).unsqueeze(1)
        median = base @ points
        arrived = torch.zeros_like(median[..., :1], dtype=torch.bool)
        for _ in range(iterations):
            near = torch.baddbmm(squares, median, points.mT, alpha=-2)
            near += median.square().sum(dim=-1, keepdim=True)
            pull = near.clamp_min_(_NEAREST**2).rsqrt_().mul_(base)
            total = pull.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(pull.dtype).tiny)
            moved = pull @ points / total
            # Whoever has arrived stays: no target depends on which others are computed beside it.
            arrived |= (moved - median).abs().amax(dim=-1, keepdim=True) <= tolerance
            median = torch.where(arrived, median, moved)
            if bool(arrived.all()):
                break
        return median

    return fuse_clouds(core, probs, weights, mask)


@dataclass(frozen=True, slots=True)
class GeometricMedian:
    """Take each sample's geometric median; the weights say how much a source counts.

    Args:
        temperature: Of the softmax.
        iterations: Of Weiszfeld's algorithm, at most.
        tolerance: Stop when no probability moves by more.
    """

    temperature: float = 1.0
    iterations: int = 20
    tolerance: float = 1e-4
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("GeometricMedian", "temperature", self.temperature, above=0)
        require_count("GeometricMedian", "iterations", self.iterations)
        require_number("GeometricMedian", "tolerance", self.tolerance, at_least=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        return geometric_median(probs, weights, bank.mask, self.iterations, self.tolerance)
