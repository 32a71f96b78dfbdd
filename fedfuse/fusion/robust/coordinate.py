"""Robust means of every class probability by itself: weighted median and weighted trimmed mean.

Both tolerate wrong sources of a total *weight* below one half and below the trimmed share. The
results need not sum to 1 over the classes, so they are renormalised.

The sources are sorted once, since receivers differ only in their weights. What a receiver needs is
a quantile of its weights in that order. It is found in two steps of about sqrt(J) each: the block
of ranks in which it lies, then its place in the block. So K personal medians of J sources cost
2 sqrt(J) passes over the targets instead of J.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from fedfuse.fusion.blocks import spans
from fedfuse.fusion.robust.receivers import fuse_distinct, to_simplex
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_number

_SLACK = 1e-9
"""Share of a mass that rounding may cost: two of four equal weights are exactly one half."""

_BLOCK_ELEMENTS = 2**16
"""Targets worked on at a time; a few float64 arrays of this size stay in the caches."""


class _Crossing(NamedTuple):
    """Where the cumulated weights of sorted sources reach a share of their mass, [n, U].

    Args:
        value: The value of the source at which they do.
        below: The weights of all sources before that one.
        moment: The sum of weight times value over the same.
    """

    value: Float[Tensor, "n U"]
    below: Float[Tensor, "n U"]
    moment: Float[Tensor, "n U"]


@dataclass(frozen=True, slots=True)
class _Ranks:
    """The sources of coordinates n = (sample, class) from low to high.

    Args:
        values: float64 [N, J].
        order: int64 [N, J], which source has the rank.
        present: float64 [N, J], 0 where that source did not answer.
    """

    values: Float[Tensor, "N J"]
    order: Int[Tensor, "N J"]
    present: Float[Tensor, "N J"] | None

    @classmethod
    def of(cls, probs: Float[Tensor, "J P C"], mask: Bool[Tensor, "J P"] | None) -> _Ranks:
        """Sort the sources of every coordinate."""
        flat = probs.double().flatten(1).T.contiguous()
        if mask is None:
            return cls(*flat.sort(dim=1), None)
        known = mask.repeat_interleave(probs.shape[2], dim=1).T
        values, order = torch.where(known, flat, 0).sort(dim=1)
        return cls(values, order, known.double().gather(1, order))

    def part(self, where: slice) -> _Ranks:
        """Return some of the coordinates."""
        present = None if self.present is None else self.present[where]
        return _Ranks(self.values[where], self.order[where], present)

    def mass(self, weights: Float[Tensor, "J U"]) -> Float[Tensor, "#n U"]:
        """Return the weight of all sources that answered."""
        if self.present is None:
            return weights.sum(dim=0, keepdim=True)
        return self._summed(weights, self.order, self.present)

    def crossing(
        self, weights: Float[Tensor, "J U"], aim: Float[Tensor, "#n U"], *, moments: bool = False
    ) -> _Crossing:
        """Return the first source with which the cumulated weights are at least ``aim``.

        The last one where they never are. ``moment`` is only right if ``moments`` is asked for.
        """
        num_sources = self.order.shape[1]
        step = math.isqrt(num_sources - 1) + 1
        shape = len(self.order), weights.shape[1]
        below, moment = weights.new_zeros(shape), weights.new_zeros(shape)
        first = torch.zeros(shape, dtype=torch.int64, device=weights.device)
        upto, total = below, moment
        for block in spans(num_sources, step)[:-1]:
            present = None if self.present is None else self.present[:, block]
            upto = upto + self._summed(weights, self.order[:, block], present)
            passed = upto < aim
            below = torch.where(passed, upto, below)
            first += step * passed
            if moments:
                values = self.values[:, block]
                parts = values if present is None else values * present
                total = total + self._summed(weights, self.order[:, block], parts)
                moment = torch.where(passed, total, moment)
        for _ in range(step - 1):
            weight = weights.gather(0, self.order.gather(1, first))
            if self.present is not None:
                weight *= self.present.gather(1, first)
            upto = below + weight
            # Whoever has not passed one source passes none after it, as ``first`` stays there.
            passed = (upto < aim) & (first < num_sources - 1)
            if moments:
                moment = torch.where(passed, moment + weight * self.values.gather(1, first), moment)
            below = torch.where(passed, upto, below)
            first += passed
        value = self.values.gather(1, first)
        return _Crossing(value, below, moment)

    def _summed(
        self, weights: Float[Tensor, "J U"], index: Int[Tensor, "n r"], factors: Tensor | None
    ) -> Float[Tensor, "n U"]:
        """Return the weights of the sources at ``index``, times their factors, summed."""
        if factors is not None:
            factors = factors.contiguous()
        return embedding_bag(index.contiguous(), weights, mode="sum", per_sample_weights=factors)


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

    def fuse(ranks: _Ranks, rows: Float[Tensor, "J U"]) -> Float[Tensor, "n U"]:
        half = 0.5 * ranks.mass(rows)
        lower = ranks.crossing(rows, half * (1 - _SLACK)).value
        # Half reached to the last bit: whatever comes next is as much in the middle.
        return (lower + ranks.crossing(rows, half * (1 + _SLACK)).value) / 2

    return _fused(fuse, probs, weights, mask)


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

    def fuse(ranks: _Ranks, rows: Float[Tensor, "J U"]) -> Float[Tensor, "n U"]:
        mass = ranks.mass(rows)
        low, high = trim * mass, (1 - trim) * mass
        first = ranks.crossing(rows, low, moments=True)
        last = ranks.crossing(rows, high, moments=True)
        # The integral of the quantile function up to each border, and what lies between.
        upto_low = first.moment + (low - first.below) * first.value
        upto_high = last.moment + (high - last.below) * last.value
        return (upto_high - upto_low) / (high - low).clamp_min(torch.finfo(mass.dtype).tiny)

    return _fused(fuse, probs, weights, mask)


def _fused(
    fuse: Callable[[_Ranks, Tensor], Tensor],
    probs: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"],
    mask: Bool[Tensor, "J P"] | None,
) -> Float[Tensor, "K P C"]:
    """Return targets of coordinates [n, U] that ``fuse`` makes of ranks and weights [J, U]."""
    ranks = _Ranks.of(probs, mask)

    def targets(rows: Float[Tensor, "U J"]) -> Float[Tensor, "U P C"]:
        by_source = rows.double().T.contiguous()
        parts = spans(len(ranks.order), _BLOCK_ELEMENTS // len(rows))
        coordinates = torch.cat([fuse(ranks.part(part), by_source) for part in parts])
        return to_simplex(coordinates.T.reshape(-1, *probs.shape[1:]))

    return fuse_distinct(targets, weights, mask, probs[0].numel()).to(probs.dtype)


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
