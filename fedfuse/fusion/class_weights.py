"""Fusion weights that differ by class: ``w_ijc`` of receiver i, source j and class c.

They are the softmax, over the sources, of scores ``s_ijc``, so they sum to 1 for every receiver and
class. Where the scores are a pair's plus a source's, ``s_ijc = s_ij + e_jc``, the weighted mean is
two products of ordinary size and no [K, K, C] is made::

    sum_j w_ijc v_jc = sum_j a_ij (b_jc v_jc) / sum_j a_ij b_jc,   a = exp(s), b = exp(e)

with row maxima of s and column maxima of e subtracted first. Where a receiver's best sources for a
class are so far below both maxima that these products come near the end of the floats, and for
scores that are given whole, [K, K, C], the weights of some receivers at a time are made and
multiplied class by class.

A class that none of a receiver's sources scores (all minus infinity, or none of those who answered
a sample) is fused with the weights of the scores that neighbours are chosen by,
:func:`fedfuse.fusion.class_scores.over_classes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedfuse.fusion.blocks import spans
from fedfuse.fusion.class_scores import BLOCK_BYTES, mean_over_classes, over_classes
from fedfuse.fusion.gather import weighted_sum
from fedfuse.fusion.weights import masked_softmax
from fedfuse.protocols import ClassScores
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import ClassShares


@dataclass(frozen=True, eq=False)
class ClassWeights:
    """The weights of a round by class, made from the scores as they are needed.

    Args:
        scores: Log-weights by pair and by source, or whole, [K, J, C]; no NaN, no +inf. With an
            ``index``, the pairs' are [K, k] and the sources' [J, C].
        near: bool [K, J] (or [K, k]), whom each receiver listens to; no row all False.
        index: Each receiver's few sources [K, k]; None for all.
        dtype: Of the weights.
        block_bytes: The most that the weights of some receivers take at a time.
    """

    scores: ClassScores | Tensor
    near: Tensor
    index: Tensor | None = None
    dtype: torch.dtype = torch.float32
    block_bytes: int = BLOCK_BYTES

    def __len__(self) -> int:
        """Return the number of receivers."""
        return len(self.near)

    @cached_property
    def num_classes(self) -> int:
        """Return C."""
        whole = self.scores
        return int((whole.source if isinstance(whole, ClassScores) else whole).shape[-1])

    @cached_property
    def common(self) -> Float[Tensor, "K J"]:
        """Return the weights of the scores over all classes, [K, J], rows summing to 1."""
        if self.index is None:
            scores = over_classes(self.scores, self.dtype, self.block_bytes)
        else:
            pair, source = self._pair_and_source
            scores = pair + mean_over_classes(source)[self.index]
        return masked_softmax(scores, self.near)

    @cached_property
    def mean(self) -> Float[Tensor, "K J"]:
        """Return the weights' mean over the classes, [K, J], rows summing to 1."""
        mean = torch.zeros_like(self.common)
        if self._factors is not None:
            pair, source, mass = self._factors
            part = (
                (1 / mass) @ source.T if self.index is None else _at(1 / mass, source, self.index)
            )
            mean = pair * part / self.num_classes
        for rows in self._whole_rows():
            mean[rows] = self.rows(rows).mean(dim=2)
        return mean

    def summary(self) -> ClassShares:
        """Return what a round's record keeps of them, beside their mean, on the CPU."""
        return ClassShares(self._shares().float().cpu(), self._effective_neighbours().float().cpu())

    def _shares(self) -> Float[Tensor, "J C"]:
        shares = self.common.new_zeros(len(self), self.num_classes)
        if self._factors is not None:
            pair, source, mass = self._factors
            inverse = (1 / mass).index_fill(0, self._weak, 0)
            if self.index is None:
                shares = source * (pair.T @ inverse)
            else:
                told = (pair.unsqueeze(2) * inverse.unsqueeze(1)).flatten(0, 1)
                shares = source * torch.zeros_like(shares).index_add_(0, self.index.flatten(), told)
        for rows in self._whole_rows():
            made = self.rows(rows)
            if self.index is None:
                shares = shares + made.sum(dim=0)
            else:
                shares.index_add_(0, self.index[rows].flatten(), made.flatten(0, 1))
        return shares / len(self)

    def _effective_neighbours(self) -> Float[Tensor, " K"]:
        found = self.common.new_zeros(len(self))
        if self._factors is not None:
            pair, source, mass = self._factors
            # -sum w log w with w = a b / m; 0 log 0 = 0.
            own = self._sum(torch.xlogy(pair, pair), source) + self._sum(
                pair, torch.xlogy(source, source)
            )
            found = (mass.log() - own / mass).exp().mean(dim=1)
        for rows in self._whole_rows():
            made = self.rows(rows)
            found[rows] = (-torch.xlogy(made, made).sum(dim=1)).exp().mean(dim=1)
        return found

    def rows(self, receivers: slice | Int[Tensor, " r"]) -> Float[Tensor, "r J C"]:
        """Return the whole weights of some receivers, which sum to 1 over the sources."""
        near = self.near[receivers].unsqueeze(2)
        if isinstance(self.scores, ClassScores):
            pair, source = self._pair_and_source
            source = source if self.index is None else source[self.index[receivers]]
            scores = pair[receivers].unsqueeze(2) + source
        else:
            scores = self.scores[receivers].to(self.dtype)
        scores = scores.masked_fill(~near, -torch.inf)
        unscored = (scores == -torch.inf).all(dim=1, keepdim=True)
        weights = scores.softmax(dim=1)
        if bool(unscored.any()):
            weights = torch.where(unscored, self.common[receivers].unsqueeze(2), weights)
        return weights

    def of(
        self, values: Float[Tensor, "J P C"], mask: Bool[Tensor, "J P"] | None, spent: bool = False
    ) -> Prepared:
        """Return the values of all sources, ready for the receivers' means over them.

        Args:
            values: What is averaged.
            mask: Who answered what; None for all.
            spent: Whether nobody needs the values any more. They may be overwritten then, which
                saves as much memory, and fresh memory costs more than the product that fills it.
        """
        if mask is not None:
            # Not a product with the mask: an answer that was never given may hold NaN.
            values = torch.where(mask.unsqueeze(-1), values, 0)
        scaled = known = None
        if self._factors is not None:
            source = self._factors[1].to(values.dtype).unsqueeze(1)
            free = spent and mask is None and not len(self._weak)
            scaled = (values.mul_(source) if free else values * source).flatten(1)
            known = None if mask is None else (mask.unsqueeze(-1) * source).flatten(1)
        return Prepared(values, mask, scaled, known)

    def means(
        self, prepared: Prepared, receivers: slice = slice(None)
    ) -> tuple[Float[Tensor, "r P C"], Bool[Tensor, "r P"] | None]:
        """Return ``sum_j w_ijc v_jc`` of some receivers, and with a mask where anybody answered.

        Weights are renormalised, sample by sample and class by class, over those who answered; 0
        where nobody did.
        """
        values, mask = prepared.values, prepared.mask
        first, last, _ = receivers.indices(len(self))
        fused = values.new_empty(last - first, *values.shape[1:])
        mass = None if mask is None else torch.empty_like(fused)
        if self._factors is not None and prepared.scaled is not None:
            pair = self._factors[0][receivers]
            fused = self._product(pair, prepared.scaled, receivers).view(fused.shape)
            total = self._factors[2][receivers].to(fused.dtype).unsqueeze(1)
            if prepared.known is None:
                fused /= total
            else:
                mass = self._product(pair, prepared.known, receivers).view(fused.shape)
        for rows in self._whole_rows(receivers):
            weights = self.rows(rows).to(values.dtype)
            fused[rows - first] = self._by_class(weights, values, rows)
            if mass is not None and mask is not None:
                known = mask.to(values.dtype).unsqueeze(-1).expand_as(values)
                mass[rows - first] = self._by_class(weights, known, rows)
        if mask is None or mass is None:
            return fused, None
        return self._renormalised(fused, mass, prepared, receivers)

    def answered(self, mask: Bool[Tensor, "J P"]) -> Bool[Tensor, "K P"]:
        """Return True where any source that a receiver gives weight to answered the sample."""
        known = self._product(self.common, mask.to(self.common.dtype), slice(None))
        return known >= torch.finfo(known.dtype).tiny

    def _renormalised(
        self,
        fused: Float[Tensor, "r P C"],
        mass: Float[Tensor, "r P C"],
        prepared: Prepared,
        receivers: slice,
    ) -> tuple[Float[Tensor, "r P C"], Bool[Tensor, "r P"]]:
        assert prepared.mask is not None
        tiny = torch.finfo(mass.dtype).tiny
        common = self.common[receivers].to(mass.dtype)
        total = self._product(common, prepared.mask.to(mass.dtype), receivers)
        anybody = (total >= tiny).unsqueeze(-1)
        enough = mass >= _least(mass.dtype)
        fused = fused / mass.clamp_min(tiny)
        if bool((anybody & ~enough).any()):
            plain = self._product(common, prepared.values.flatten(1), receivers).view(fused.shape)
            fused = torch.where(enough, fused, plain / total.clamp_min(tiny).unsqueeze(-1))
        return torch.where(anybody, fused, 0), anybody.squeeze(-1)

    @cached_property
    def _pair_and_source(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.scores, ClassScores)
        return self.scores.pair.to(self.dtype), self.scores.source.to(self.dtype)

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a [K, J], b [J, C] and a b [K, C]; None for scores that are given whole."""
        if not isinstance(self.scores, ClassScores):
            return None
        pair, source = self._pair_and_source
        # What nobody knows of a class is told by what is known of all of them.
        unscored = (source == -torch.inf).all(dim=0)
        source = torch.where(unscored, mean_over_classes(source).unsqueeze(1), source)
        pair = _from_top(pair.masked_fill(~self.near, -torch.inf), dim=1)
        source = _from_top(source, dim=0)
        return pair, source, self._sum(pair, source)

    @cached_property
    def _weak(self) -> Int[Tensor, " r"]:
        """Return the receivers whose weights no product of two factors can tell."""
        if self._factors is None:
            return torch.arange(len(self), device=self.near.device)
        mass = self._factors[2]
        return (~(mass >= _least(mass.dtype)).all(dim=1)).nonzero().flatten()

    def _whole_rows(self, receivers: slice = slice(None)) -> Iterator[Int[Tensor, " r"]]:
        """Yield receivers whose weights are made whole, a few at a time."""
        first, last, _ = receivers.indices(len(self))
        some = self._weak[(self._weak >= first) & (self._weak < last)]
        step = self.block_bytes // (4 * self.near.shape[1] * self.num_classes)
        for part in spans(len(some), step):
            yield some[part]

    def _sum(self, pair: Float[Tensor, "K n"], source: Float[Tensor, "J C"]) -> Tensor:
        return self._product(pair, source, slice(None))

    def _product(
        self, pair: Float[Tensor, "r n"], values: Float[Tensor, "J F"], rows: slice | Tensor
    ) -> Float[Tensor, "r F"]:
        """Return ``sum_n pair_rn values_n`` over the receivers' sources."""
        if self.index is None:
            return pair.to(values.dtype) @ values
        return weighted_sum(values, self.index[rows], pair)

    def _by_class(
        self,
        weights: Float[Tensor, "r n C"],
        values: Float[Tensor, "J P C"],
        rows: Int[Tensor, " r"],
    ) -> Float[Tensor, "r P C"]:
        """Return the sums with weights of their own for every class."""
        sums = [
            self._product(weights[..., c].contiguous(), values[..., c].contiguous(), rows)
            for c in range(values.shape[2])
        ]
        return torch.stack(sums, dim=2)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the sources answered, ready for the means of any receivers.

    Args:
        values: [J, P, C], 0 where masked.
        mask: bool [J, P], or None.
        scaled: [J, P*C], the values times b; None for scores that are given whole.
        known: [J, P*C], b where answered; None likewise, and without a mask.
    """

    values: Tensor
    mask: Tensor | None
    scaled: Tensor | None
    known: Tensor | None


def to_simplex_(probs: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
    """Divide the rows by their sums, in place: weighed by class they do not sum to 1 by themselves.

    Uniform where nothing is left: every class was named by sources only that do not count for it.

    >>> to_simplex_(torch.tensor([[0.3, 0.1], [0.0, 0.0]]))
    tensor([[0.7500, 0.2500],
            [0.5000, 0.5000]])
    """
    total = probs.sum(dim=-1, keepdim=True)
    tiny = torch.finfo(probs.dtype).tiny
    probs /= total.clamp_min(tiny)
    if float(total.amin()) < tiny:
        probs.masked_fill_(total < tiny, 1 / probs.shape[-1])
    return probs


def _least(dtype: torch.dtype) -> float:
    """Return down to where a sum of products of two factors, each at most 1, is exact.

    A factor that is too small for the type adds less than ``tiny``, and this is ``tiny ** (2/3)``.
    """
    return float(torch.finfo(dtype).tiny ** (2 / 3))


def _from_top(logs: Float[Tensor, "A B"], dim: int) -> Float[Tensor, "A B"]:
    """Return the exponentials relative to the largest of each row or column; 0 if all are."""
    best = logs.amax(dim=dim, keepdim=True)
    return torch.where(best == -torch.inf, 0, (logs - best).exp())


def _at(
    inverse: Float[Tensor, "K C"], source: Float[Tensor, "J C"], index: Int[Tensor, "K k"]
) -> Float[Tensor, "K k"]:
    """Return ``sum_c inverse_ic source_jc`` for the sources j of each receiver."""
    return torch.einsum("kc,knc->kn", inverse, source[index])
