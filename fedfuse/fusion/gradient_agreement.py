"""Hear those whose teaching would pull a receiver the way that the labels pull it.

CUBER (arXiv 2211.00789) learns from an old task where gradients agree. Between clients, and of
logits on labelled public samples, the form is ours: it needs nothing but what is shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.fusion.blocks import spans
from fedfuse.fusion.returned import checked_labels
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_number

FLOOR = 1e-8
"""The least that a score is the logarithm of."""
_BLOCK_ELEMENTS = 2**20  # float64 elements of a temporary, 8 MiB
_NOTHING = 1e-12  # squared norm below which a gradient has no direction


def gradient_agreement(
    probs: Float[Tensor, "K P C"],
    labels: Int[Tensor, " P"],
    mask: Bool[Tensor, "K P"] | None = None,
) -> Float[Tensor, "K K"]:
    """Return the mean cosine of receiver i's gradients of its logits, from -1 to 1.

    One is that of the cross-entropy, ``p_i - y``, the other that of learning from source j,
    ``p_i - p_j``. The mean is over the samples that both answered; where either is 0 their cosine
    counts as 0, and so does that of two clients without a common sample.

    Args:
        probs: Predictions.
        labels: y.
        mask: Which samples each client answered.
    """
    num_clients, num_samples, num_classes = probs.shape
    exact = probs.double().transpose(0, 1)
    target = one_hot(labels, num_classes).double().unsqueeze(2)
    both = None if mask is None else mask.T.double()
    total = exact.new_zeros(num_clients, num_clients)
    for part in spans(num_samples, _BLOCK_ELEMENTS // num_clients**2):
        p = exact[part]
        inner = p @ p.transpose(1, 2)
        square = inner.diagonal(dim1=1, dim2=2)
        right = (p @ target[part]).squeeze(2)
        to_labels = square - 2 * right + 1
        to_source = square.unsqueeze(2) + square.unsqueeze(1) - 2 * inner
        # (p_i - y) (p_i - p_j)
        product = (square - right).unsqueeze(2) - inner + right.unsqueeze(1)
        points = (to_source > _NOTHING) & (to_labels > _NOTHING).unsqueeze(2)
        lengths = (
            to_source.clamp_min(_NOTHING) * to_labels.clamp_min(_NOTHING).unsqueeze(2)
        ).sqrt()
        cosine = torch.where(points, product / lengths, 0).clamp_(-1, 1)
        if both is not None:
            cosine.mul_(both[part].unsqueeze(2)).mul_(both[part].unsqueeze(1))
        total += cosine.sum(dim=0)
    if both is None:
        return (total / num_samples).to(probs.dtype)
    return (total / (both.T @ both).clamp_min(1)).to(probs.dtype)


@dataclass(frozen=True, slots=True)
class GradientAgreement:
    """Score source j for receiver i by the logarithm of how far its gradient agrees with i's own.

    A receiver hears itself with score 0, and nobody whose agreement is not above ``epsilon``: a
    twin, from whom there is nothing to learn, is not heard.

    Args:
        epsilon: Agreement that a source must exceed.
        temperature: Of the softmax.
    """

    epsilon: float = 0.0
    temperature: float = 1.0
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("GradientAgreement", "epsilon", self.epsilon, at_least=0, below=1)
        require_number("GradientAgreement", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K"]:
        """Return the scores."""
        known = checked_labels(bank, labels, "scorer GradientAgreement")
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        agreement = gradient_agreement(probs, known, bank.mask)
        heard = agreement > self.epsilon
        scores = torch.where(heard, agreement.clamp_min(FLOOR).log(), -torch.inf)
        return scores.fill_diagonal_(0)
