"""Each teaches the other only where it is better: bidirectional selective distillation.

A Good Student is Cooperative and Reliable (arXiv 2307.12574) lets a CNN and a transformer teach
each other where each is the better one. The directions are the paper's abstract; the criterion is
ours, and a pixel there is a sample here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.blocks import spans
from fedfuse.fusion.gate import BY, confidence
from fedfuse.protocols import Fused
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_number, require_one_of

_BLOCK_ELEMENTS = 2**22
"""Of the weights of some samples, [p, K, J], that are held at a time."""


def quality(
    logits: Float[Tensor, "K P C"], temperature: float, labels: Int[Tensor, " P"] | None = None
) -> Float[Tensor, "K P"]:
    """Return how good each answer is: its largest probability, or minus its cross-entropy.

    >>> quality(torch.tensor([[[0.0, 0.0]]]), 1.0, torch.tensor([1]))
    tensor([[-0.6931]])
    """
    if labels is None:
        return confidence((logits / temperature).softmax(dim=-1))
    return confidence((logits / temperature).log_softmax(dim=-1), labels)


def taught(
    probs: Float[Tensor, "K P C"],
    good: Float[Tensor, "K P"],
    weights: Float[Tensor, "K K"],
    margin: float,
) -> tuple[Float[Tensor, "K P C"], Bool[Tensor, "K P"]]:
    """Return the weighted mean of those who are better by more than ``margin``, and if any are.

    The mean is 0 where nobody is.

    Args:
        probs: What the sources say.
        good: How good that is; minus infinity is nothing said.
        weights: Receivers by sources.
        margin: At least 0, so that nobody is better than itself.

    >>> probs = torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]]])
    >>> mean, some = taught(probs, probs.amax(-1), torch.full((2, 2), 0.5), 0.0)
    >>> mean[1, 0], some.squeeze(1)
    (tensor([0.9000, 0.1000]), tensor([False,  True]))
    """
    by_sample = good.T
    means, masses = [], []
    for part in spans(probs.shape[1], _BLOCK_ELEMENTS // weights.numel()):
        theirs, own = by_sample[part].unsqueeze(1), by_sample[part].unsqueeze(2)
        better = torch.where(theirs > own + margin, weights, 0)  # [p, K, J]
        means.append(better @ probs[:, part].transpose(0, 1))
        masses.append(better.sum(dim=-1))
    mean, mass = torch.cat(means).transpose(0, 1), torch.cat(masses).T
    tiny = torch.finfo(mass.dtype).tiny
    some = mass >= tiny
    return torch.where(some.unsqueeze(-1), mean / mass.clamp_min(tiny).unsqueeze(-1), 0), some


@dataclass(frozen=True, slots=True)
class BetterSources:
    """Teach each receiver, per sample, what those of its sources say that are better than it.

    ``w_ij(x)`` is in proportion to ``w_ij`` for the sources that are better by more than
    ``margin``, and 0 for all others, itself included. Where nobody is better the target is the
    receiver's own with sample weight 0: nothing is taught. A receiver that did not answer a sample
    is taught by all that did. The round's metric ``taken_share`` is the share of all targets that
    others have made.

    Args:
        by: ``max_prob``, the largest probability; or ``label``, minus the cross-entropy.
        margin: By how much more; of a probability, or of nats.
        temperature: Of the softmax.
    """

    by: str = "max_prob"
    margin: float = 0.0
    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_one_of("BetterSources", "by", self.by, BY)
        require_number("BetterSources", "margin", self.margin, at_least=0)
        require_number("BetterSources", "temperature", self.temperature, above=0)

    @property
    def needs_labels(self) -> bool:
        """Whether it reads the public labels."""
        return self.by == "label"

    def __call__(
        self,
        bank: KnowledgeBank,
        weights: Float[Tensor, "K K"],
        labels: Int[Tensor, " P"] | None = None,
    ) -> Fused:
        """Return one target per receiver, and weight 0 where nobody is better."""
        good = quality(bank.logits, self.temperature, labels if self.needs_labels else None)
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        own = probs
        if bank.mask is not None:
            there = bank.mask.unsqueeze(-1)
            good = good.masked_fill(~bank.mask, -torch.inf)
            probs, own = torch.where(there, probs, 0), torch.where(there, probs, 1 / probs.shape[2])
        mean, some = taught(probs, good, weights, self.margin)
        told = {"taken_share": float(some.float().mean())}
        return Fused(torch.where(some.unsqueeze(-1), mean, own), some.to(torch.float32), told)
