"""Weigh sources by how high they rank the right class of labelled public samples (MRR@k)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.errors import KnowledgeError
from fedfuse.fusion.returned import checked_labels
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_count, require_flag, require_number

FLOOR = 1e-8
"""The least that a score is the logarithm of."""


def reciprocal_rank(
    logits: Float[Tensor, "*batch P C"], labels: Int[Tensor, " P"], k: int
) -> Float[Tensor, "*batch P"]:
    """Return 1 / rank of each sample's label if it is among the first k, else 0.

    Of classes with equal logits the smaller one ranks higher, as in an arg max.

    >>> reciprocal_rank(torch.tensor([[3.0, 2.0, 2.0, 1.0]] * 4), torch.tensor([0, 1, 2, 3]), 3)
    tensor([1.0000, 0.5000, 0.3333, 0.0000])
    """
    known = labels.unsqueeze(-1)
    of_label = logits.gather(-1, known.expand(*logits.shape[:-1], 1))
    before = torch.arange(logits.shape[-1], device=logits.device) < known
    above = (logits > of_label) | ((logits == of_label) & before)
    rank = above.sum(dim=-1).to(logits.dtype) + 1
    return torch.where(rank <= k, 1 / rank, 0)


@dataclass(frozen=True, slots=True)
class ReciprocalRank:
    """Score every source by the logarithm of its mean reciprocal rank, ``log a_j``.

    After the weight that AP@k distillation gives a teacher (arXiv 2309.17134); as a score of a
    source it is ours. With ``k=1`` sources are ordered by their accuracy.

    Args:
        k: Ranks that count for something.
        sharpness: Factor on the score; 0 is the plain mean.
        per_class: Score a source for each receiver by the mean of its ``a_jc`` over the classes,
            weighed by the receiver's class shares; classes of which the source answered no public
            sample are left out.
    """

    k: int = 3
    sharpness: float = 1.0
    per_class: bool = False
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("ReciprocalRank", "k", self.k)
        require_number("ReciprocalRank", "sharpness", self.sharpness, at_least=0)
        require_flag("ReciprocalRank", "per_class", self.per_class)

    @property
    def needs_class_distribution(self) -> bool:
        """Whether the clients must send their class shares."""
        return self.per_class

    def __call__(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K"]:
        """Return the log-weights.

        Raises:
            KnowledgeError: If labels or class shares are not there.
        """
        known = checked_labels(bank, labels, "scorer ReciprocalRank")
        ranks = reciprocal_rank(bank.logits, known, self.k)
        of_all = _mean(ranks, bank.mask)
        scores = of_all.repeat(bank.num_clients, 1)
        if self.per_class:
            scores = self._of_receivers(bank, ranks, known, scores)
        return self.sharpness * scores.clamp_min(FLOOR).log()

    @staticmethod
    def _of_receivers(
        bank: KnowledgeBank, ranks: Tensor, labels: Tensor, otherwise: Tensor
    ) -> Float[Tensor, "K K"]:
        """Return each source's mean rank as each receiver's classes weigh it."""
        if bank.class_distribution is None:
            raise KnowledgeError(
                "The scorer ReciprocalRank needs the clients' class shares, which were not sent",
                next_step="Set client.share_class_distribution=true, or scorer.per_class=false.",
            )
        shares = bank.class_distribution.to(ranks)
        of_class = one_hot(labels, bank.num_classes).to(ranks)
        present = torch.ones_like(ranks) if bank.mask is None else bank.mask.to(ranks)
        answers = present @ of_class
        known = (answers > 0).to(ranks)
        means = (ranks * present) @ of_class / answers.clamp_min(1)
        weight = shares @ known.T
        return torch.where(weight > 0, shares @ means.T / weight.clamp_min(FLOOR), otherwise)


def _mean(values: Float[Tensor, "K P"], mask: Bool[Tensor, "K P"] | None) -> Float[Tensor, " K"]:
    """Return each client's mean over what it answered; 0 where it answered nothing."""
    if mask is None:
        return values.mean(dim=1)
    return torch.where(mask, values, 0).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
