"""Weights by scores that the receivers have computed themselves and sent with their predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.shapes import Float
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_number, require_one_of

FLOOR = 1e-8
"""The least that a score is the logarithm of."""


def log_scores(
    scores: Float[Tensor, "K K"], epsilon: float = 0.0, *, hears_unknown: bool = True
) -> Float[Tensor, "K K"]:
    """Return ``log max(score, 1e-8)`` of sources above epsilon, -inf of others; 0 of oneself.

    Args:
        scores: Row = receiver, column = source; NaN where the receiver does not know the source.
        epsilon: What a source must exceed.
        hears_unknown: Whether such a source counts as much as oneself, or not at all.

    >>> log_scores(torch.tensor([[0.3, 0.5], [-0.5, torch.nan]])).exp()
    tensor([[1.0000, 0.5000],
            [0.0000, 1.0000]])
    """
    heard = torch.where(scores > epsilon, scores.clamp_min(FLOOR).log(), -torch.inf)
    unknown = 0.0 if hears_unknown else -torch.inf
    return torch.where(scores.isnan(), unknown, heard).fill_diagonal_(0)


@dataclass(frozen=True, slots=True)
class UploadedScores:
    """Score each source as the receiver does (``exchange=scored_sources``).

    Args:
        epsilon: What a receiver's score must exceed for the source to be heard.
        unknown: ``heard`` counts a source that a receiver has not judged yet as much as the
            receiver itself, so that the first fusion is a mean; ``left_out`` waits.
    """

    epsilon: float = 0.0
    unknown: str = "heard"
    needs_scores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("UploadedScores", "epsilon", self.epsilon, at_least=0)
        require_one_of("UploadedScores", "unknown", self.unknown, ("heard", "left_out"))

    def __call__(self, bank: KnowledgeBank, labels: Tensor | None) -> Float[Tensor, "K K"]:  # noqa: ARG002
        """Return the scores; of a bank without any, where nobody is known yet, all are unknown."""
        k = bank.num_clients
        known = bank.logits.new_full((k, k), torch.nan)
        if bank.scores is not None:
            known = bank.scores[:, bank.client_ids].to(bank.logits.dtype)
        return log_scores(known, self.epsilon, hears_unknown=self.unknown == "heard")
