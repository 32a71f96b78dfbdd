"""How sure of the label, and what beside it: the halves of KL, each with its own weight (DKD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.distill.labels import at_label, require_classes
from fedfuse.shapes import Float, Int
from fedfuse.train.facts import Facts
from fedfuse.types import Space
from fedfuse.validation import require_number


def decoupled(
    student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], labels: Int[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return KL of "the label or not", and KL over the other classes alone, nats.

    With the label's own share t_y, ``first + (1 - t_y) * second`` is KL(t || softmax(z)). Where the
    target leaves nothing to the other classes, the second is 0; where a label is unknown (below 0),
    the first is.
    """
    hit = at_label(labels, targets)
    log_student = student_logits.log_softmax(dim=-1)
    log_rest = log_student.masked_fill(hit, -torch.inf).logsumexp(dim=-1)
    others = targets.masked_fill(hit, 0).clamp_min(0)
    rest = others.sum(dim=-1)
    label = (targets * hit).sum(dim=-1).clamp_min(0)
    first = torch.xlogy(label, label) + torch.xlogy(rest, rest)
    first = first - label * (log_student * hit).sum(dim=-1) - rest * log_rest
    shares = others / rest.clamp_min(torch.finfo(rest.dtype).tiny).unsqueeze(-1)
    log_others = log_student - log_rest.unsqueeze(-1)
    return first, (torch.xlogy(shares, shares) - shares * log_others).sum(dim=-1)


@dataclass(frozen=True, slots=True)
class DKD:
    """``T**2 (alpha KL(label or not) + beta KL(other classes))`` (DKD, arXiv 2203.08679).

    The target's likeliest class as label, where nobody knows it, is ours.

    Args:
        alpha: Weight of how sure the teacher is of the label.
        beta: Weight of what it says of the other classes: 8 for images, 0.5 in a comparison on
            language.
        temperature: T of the student's softmax; take that of the teacher's probabilities.
    """

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    space: ClassVar[Space] = Space.PROBABILITIES
    wants: ClassVar[frozenset[str]] = frozenset({"labels"})
    pseudo_labels: ClassVar[bool] = True
    min_classes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        require_number("DKD", "alpha", self.alpha, at_least=0)
        require_number("DKD", "beta", self.beta, at_least=0)
        require_number("DKD", "temperature", self.temperature, above=0)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], facts: Facts
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        require_classes("DKD", "compares the classes beside the label", targets.shape[-1], 3)
        assert facts.labels is not None
        first, second = decoupled(student_logits / self.temperature, targets, facts.labels)
        return self.temperature**2 * (self.alpha * first + self.beta * second)
