"""Robust means of every class probability by itself: weighted median and weighted trimmed mean.

Both tolerate wrong sources of a total *weight* below one half and below the trimmed share. The
results need not sum to 1 over the classes, so they are renormalised.

The sources are sorted once, since receivers differ only in their weights, and the sorted values
are walked through rank by rank for all receivers, samples and classes together: the cumulated
weights [J, P*C, K] of a sort per receiver are never held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.robust.receivers import fuse_distinct, to_simplex
from fedfuse.hyperparameters import require_number
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space

_SLACK = 1e-9
"""Mass that rounding may cost, so that two of four equal weights are exactly one half."""


@dataclass(frozen=True, slots=True)
class _Ranks:
    """The sources of every coordinate n = (sample, class) from low to high.

    Args:
        values: float64 [J, N].
        order: int64 [J, N], which source has the rank.
        present: float64 [J, N], 0 where that source did not answer.
    """

    values: Float[Tensor, "J N"]
    order: Int[Tensor, "J N"]
    present: Float[Tensor, "J N"] | None

    @classmethod
    def of(cls, probs: Float[Tensor, "J P C"], mask: Bool[Tensor, "J P"] | None) -> _Ranks:
        """Sort the sources of every coordinate."""
        flat = probs.double().flatten(1)
        if mask is None:
            values, order = flat.T.contiguous().sort(dim=1)
            return cls(values.T.contiguous(), order.T.contiguous(), None)
        known = mask.repeat_interleave(probs.shape[2], dim=1)
        values, order = torch.where(known, flat, 0).T.contiguous().sort(dim=1)
        return cls(values.T.contiguous(), order.T.contiguous(), known.double().gather(0, order.T))

    def walk(
        self, rows: Float[Tensor, "U J"]
    ) -> Iterator[tuple[Float[Tensor, "N 1"], Float[Tensor, "N U"], Float[Tensor, "N U"]]]:
        """Yield, by rank, a value and the share of each row's weight below and up to it."""
        by_source = rows.double().T.contiguous()
        if self.present is None:
            mass = by_source.sum(dim=0)
        else:
            answers = torch.zeros_like(self.present).scatter(0, self.order, self.present)
            mass = answers.T @ by_source
        scale = 1 / mass.clamp_min(torch.finfo(torch.float64).tiny)
        below = self.values.new_zeros(self.values.shape[1], len(rows))
        for rank, source in enumerate(self.order):
            weight = by_source[source] * scale
            if self.present is not None:
                weight *= self.present[rank].unsqueeze(1)
            upto = below + weight
            yield self.values[rank].unsqueeze(1), below, upto
            below = upto


def coordinate_median(
    probs: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"],
    mask: Bool[Tensor, "J P"] | None = None,
) -> Float[Tensor, "K P C"]:
    """Return the weighted median of every class probability, renormalised.

    Half of the weight lies at or below it and half at or above; where a whole interval does so
    (four equal weights), its middle is taken. Equal weights give the ordinary median.

    >>> p = torch.tensor([0.1, 0.2, 0.9])
    >>> coordinate_median(torch.stack([p, 1 - p], 1).unsqueeze(1), torch.full((1, 3), 1 / 3))
    tensor([[[0.2000, 0.8000]]])
    """
    ranks = _Ranks.of(probs, mask)

    def fuse(rows: Float[Tensor, "U J"]) -> Float[Tensor, "U P C"]:
        lower = torch.zeros((), dtype=torch.float64, device=probs.device)
        upper = lower
        for value, below, _ in ranks.walk(rows):
            # Both run along until the half is passed, and stay behind there.
            lower = torch.where(below < 0.5 - _SLACK, value, lower)
            upper = torch.where(below <= 0.5 + _SLACK, value, upper)
        return _targets((lower + upper) / 2, probs)

    return fuse_distinct(fuse, weights, mask, probs[0].numel()).to(probs.dtype)


def trimmed_mean(
    probs: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"],
    mask: Bool[Tensor, "J P"] | None = None,
    trim: float = 0.2,
) -> Float[Tensor, "K P C"]:
    """Return the mean of every class probability without its lowest and highest ``trim``.

    ``trim`` is a share of the weight, cut off exactly at both ends: a source on the border counts
    with the part that is left of it. 0 is the mean; near one half it becomes the median.

    >>> p = torch.tensor([0.0, 0.2, 0.3, 0.4, 1.0])
    >>> probs = torch.stack([p, 1 - p], 1).unsqueeze(1)
    >>> trimmed_mean(probs, torch.full((1, 5), 0.2), trim=0.2)
    tensor([[[0.3000, 0.7000]]])
    """
    ranks = _Ranks.of(probs, mask)

    def fuse(rows: Float[Tensor, "U J"]) -> Float[Tensor, "U P C"]:
        total = torch.zeros((), dtype=torch.float64, device=probs.device)
        for value, below, upto in ranks.walk(rows):
            kept = upto.clamp(trim, 1 - trim) - below.clamp(trim, 1 - trim)
            total = total + kept * value
        return _targets(total / (1 - 2 * trim), probs)

    return fuse_distinct(fuse, weights, mask, probs[0].numel()).to(probs.dtype)


def _targets(
    coordinates: Float[Tensor, "N U"], probs: Float[Tensor, "J P C"]
) -> Float[Tensor, "U P C"]:
    """Return the fused coordinates as targets on the simplex."""
    return to_simplex(coordinates.T.reshape(-1, *probs.shape[1:]))


@dataclass(frozen=True, slots=True)
class CoordinateMedian:
    """Take the median of every class probability; the weights say how much a source counts."""

    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("CoordinateMedian", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        return coordinate_median(probs, weights, bank.mask)


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """Average every class probability without its extremes; the weights count.

    Args:
        trim: Share of the weight that is cut off at each end, from 0 to below 0.5.
        temperature: Of the softmax.
    """

    trim: float = 0.2
    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("TrimmedMean", "trim", self.trim, at_least=0, at_most=0.499)
        require_number("TrimmedMean", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        return trimmed_mean(probs, weights, bank.mask, self.trim)
