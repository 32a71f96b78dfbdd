"""Find sources that err together: they stretch a sample's cloud of predictions in one direction.

A robust mean in the manner of Cronus (Chang et al. 2019), which filters each sample's [K, C]
matrix by its top eigenvector; the paper's own filter was not read, this one is our reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.robust.receivers import fuse_clouds
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_count, require_number

_POWER_STEPS = 12
_UNSCALED = 4
_FEW_CLASSES = 24  # twice the steps: there a matrix costs as much as the products it saves
_LEAST = 1e-300
_SPREAD = 1e-12
"""Squared distance below which predictions are the same and nothing is filtered."""


def spectral_mean(
    probs: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"],
    mask: Bool[Tensor, "J P"] | None = None,
    corrupted: float = 0.2,
    iterations: int = 3,
) -> Float[Tensor, "K P C"]:
    """Return the weighted mean after what stretches the cloud most was taken out of it.

    Each iteration projects the centred predictions of a sample onto the top eigenvector of their
    weighted covariance and multiplies every weight by ``1 - a t_j / max t``, ``t_j`` being the
    squared projection: the farthest source goes whole. ``a`` is 1 as long as at most twice the
    share ``corrupted`` of the weight has gone in all, and what keeps to that limit afterwards; a
    filter that takes more from the wrong than from the right sources needs no more.

    >>> p = torch.tensor([0.2, 0.2, 0.2, 0.2, 1.0])
    >>> probs = torch.stack([p, 1 - p], 1).unsqueeze(1)
    >>> spectral_mean(probs, torch.full((1, 5), 0.2))
    tensor([[[0.2000, 0.8000]]])
    """

    def core(
        points: Float[Tensor, "P J C"], kept: Float[Tensor, "P U J"]
    ) -> Float[Tensor, "P U C"]:
        for _ in range(iterations):
            stretch = _squared_projections(points, kept)
            largest = stretch.amax(dim=-1, keepdim=True)
            share = torch.where(largest > _SPREAD, stretch / largest.clamp_min(_SPREAD), 0)
            wanted = (kept * share).sum(dim=-1, keepdim=True)
            budget = kept.sum(dim=-1, keepdim=True) - (1 - 2 * corrupted)
            part = (budget / wanted.clamp_min(_SPREAD)).clamp(0, 1)
            if not bool((part > 0).any()):
                break
            kept = kept * (1 - part * share)
        total = kept.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(kept.dtype).tiny)
        return kept @ points / total

    return fuse_clouds(core, probs, weights, mask)


def _squared_projections(
    points: Float[Tensor, "P J C"], weights: Float[Tensor, "P U J"]
) -> Float[Tensor, "P U J"]:
    """Return the squared projections onto the top eigenvector, 0 for sources without weight.

    By power iteration from the source farthest from the mean.
    """
    total = weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    mean = weights @ points / total
    counted = weights > 0
    distances = points.square().sum(dim=-1).unsqueeze(1) - 2 * mean @ points.mT  # + |mean|^2
    farthest = distances.masked_fill(~counted, -torch.inf).argmax(dim=-1)
    axis = _at(points, farthest) - mean
    apply = _covariance(points, weights, mean, total)
    for step in range(_POWER_STEPS):
        axis = apply(axis)
        if step % _UNSCALED == 0:  # often enough that no number becomes too small
            axis = axis / axis.abs().amax(dim=-1, keepdim=True).clamp_min(_LEAST)
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(_LEAST)
    projections = axis @ points.mT - (axis * mean).sum(dim=-1, keepdim=True)
    return torch.where(counted, projections.square(), 0)


def _covariance(
    points: Float[Tensor, "P J C"],
    weights: Float[Tensor, "P U J"],
    mean: Float[Tensor, "P U C"],
    total: Float[Tensor, "P U 1"],
) -> Callable[[Tensor], Tensor]:
    """Return the product of every cloud's covariance with a vector [P, U, C].

    ``sum_j w_j x_j x_j^T - total m m^T``: as a matrix if that is cheaper than J products a step.
    """
    num_classes = points.shape[-1]
    if num_classes <= _FEW_CLASSES:
        squares = (points.unsqueeze(-1) * points.unsqueeze(-2)).flatten(2)
        matrix = (weights @ squares).view(*mean.shape, num_classes)
        matrix -= (total * mean).unsqueeze(-1) * mean.unsqueeze(-2)
        return lambda axis: (matrix @ axis.unsqueeze(-1)).squeeze(-1)
    pull = total * mean

    def apply(axis: Tensor) -> Tensor:
        along = (axis @ points.mT).mul_(weights)
        return along @ points - pull * (axis * mean).sum(dim=-1, keepdim=True)

    return apply


def _at(points: Float[Tensor, "P J C"], index: Int[Tensor, "P U"]) -> Float[Tensor, "P U C"]:
    """Return the points at the positions ``index`` of each sample."""
    return points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))


@dataclass(frozen=True, slots=True)
class SpectralFilter:
    """Average after filtering along the top eigenvector; the weights say how much a source counts.

    Args:
        corrupted: Share of the weight that may be wrong, from 0 (the mean) to 0.45; up to twice
            as much is filtered out.
        iterations: Directions that are filtered, one after the other.
        temperature: Of the softmax.
    """

    corrupted: float = 0.2
    iterations: int = 3
    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("SpectralFilter", "corrupted", self.corrupted, at_least=0, at_most=0.45)
        require_count("SpectralFilter", "iterations", self.iterations)
        require_number("SpectralFilter", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        return spectral_mean(probs, weights, bank.mask, self.corrupted, self.iterations)
