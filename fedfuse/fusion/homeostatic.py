"""Uncertain receivers lean on others, sure ones on themselves (ViDA, arXiv 2306.04344).

Here is how much of a target is whose, and the rule that reads the uncertainty off how far a
receiver's sources are apart. ``fedfuse.uptake.Homeostatic`` reads it off the client's own wavering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.around import AroundRule, require_inner
from fedfuse.fusion.class_weights import ClassWeights
from fedfuse.fusion.gate import inner_probabilities
from fedfuse.fusion.rules import weighted_mean
from fedfuse.protocols import Fused, Rule
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_number, require_one_of

PER = ("sample", "batch")
"""For what there is one uncertainty: a sample, or all public samples of a round."""


def teachers_share(uncertainty: Float[Tensor, "k m"], threshold: float) -> Float[Tensor, "k m"]:
    """Return the teacher's share of the target: ``(1 + U)/2`` from the threshold on, else the rest.

    >>> teachers_share(torch.tensor([[0.25, 0.1]]), threshold=0.2)
    tensor([[0.6250, 0.4500]])
    """
    return (1 + torch.where(uncertainty >= threshold, uncertainty, -uncertainty)) / 2


def sources_spread(
    logits: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"],
    mask: Bool[Tensor, "J P"] | None = None,
) -> Float[Tensor, "K P"]:
    """Return the variance of logits over each receiver's sources, in the mean over the classes.

    Weighted, and unbiased for n sources of equal weight (times ``n / (n - 1)``); 0 for one source.
    In float64, where the square of no float32 is infinite.

    >>> sources_spread(torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]]), torch.tensor([[0.5, 0.5]]))
    tensor([[1.]], dtype=torch.float64)
    """
    exact, share = logits.double(), weights.double()
    there = torch.ones_like(exact[..., 0], dtype=torch.bool) if mask is None else mask
    # Not a product with the mask: an answer that was never given may hold NaN. And around the
    # clients' mean, so that no two large squares are subtracted.
    known = torch.where(there.unsqueeze(-1), exact, 0)
    known = known - known.sum(dim=0) / there.sum(dim=0).clamp_min(1).unsqueeze(-1)
    mean = weighted_mean(known, share, mask)
    square = weighted_mean(known.square().sum(dim=-1, keepdim=True), share, mask).squeeze(-1)
    variance = (square - mean.square().sum(dim=-1)).clamp_min(0) / logits.shape[-1]
    sources = (share > 0).double() @ there.double()
    return variance * sources / (sources - 1).clamp_min(1)


@dataclass(frozen=True, slots=True)
class HomeostaticMix(AroundRule):
    """Mix what a receiver has sent itself with what is fused, by how far its sources are apart.

    The uncertainty U of a sample is ``scale`` times the variance of the sources' logits
    (:func:`sources_spread`), at most 1. ``target = ((1 + U) fused + (1 - U) own) / 2`` where U is
    at least ``threshold``, and the other way round elsewhere; what is fused alone where the
    receiver did not answer. In the authors' code the two are adapters of a network and U is one
    client's over several passes; sources in the place of passes, and targets in that of adapters,
    are ours. The level of a source's logits counts; ``extract=probabilities`` takes it out.

    The round's metrics are ``uncertainty``, the mean U, and ``taken_share``, the mean share of the
    targets that is what was fused.

    Args:
        inner: The rule that fuses.
        threshold: Theta; the authors' is 0.2, and 0.05 for CIFAR.
        scale: Of the variance, before it is compared.
        per: ``sample``; or ``batch``, one U for all samples of a round, as in the authors' code.
        temperature: Of the softmaxes; an inner rule that has a temperature fuses at this one.
    """

    inner: Rule
    threshold: float = 0.2
    scale: float = 0.1
    per: str = "sample"
    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_inner("HomeostaticMix", self.inner)
        require_number("HomeostaticMix", "threshold", self.threshold, at_least=0, at_most=1)
        require_number("HomeostaticMix", "scale", self.scale, at_least=0)
        require_one_of("HomeostaticMix", "per", self.per, PER)
        require_number("HomeostaticMix", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Any, labels: Int[Tensor, " P"] | None = None
    ) -> Fused:
        """Return one target per receiver."""
        fused, counted, others = inner_probabilities(self, bank, weights, labels)
        pairs = weights.mean if isinstance(weights, ClassWeights) else weights
        spread = sources_spread(bank.logits, pairs, bank.mask)
        if self.per == "batch":
            spread = spread.mean(dim=1, keepdim=True).expand_as(spread)
        uncertainty = (self.scale * spread).clamp_max(1).to(fused.dtype)
        share = teachers_share(uncertainty, self.threshold)
        own = (bank.logits / self.temperature).softmax(dim=-1)
        if bank.mask is not None:
            share = share.masked_fill(~bank.mask, 1)
            own = torch.where(bank.mask.unsqueeze(-1), own, 0)
        part = share.unsqueeze(-1)
        told = {"uncertainty": float(uncertainty.mean()), "taken_share": float(share.mean())}
        return Fused(part * fused + (1 - part) * own, counted, {**others, **told})
