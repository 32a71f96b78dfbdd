"""Raise the target class, so that what another architecture says of the rest counts less (OFA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedfuse.distill.labels import at_label
from fedfuse.shapes import Float, Int
from fedfuse.train.facts import Facts
from fedfuse.types import Space
from fedfuse.validation import require_flag, require_number


def enhanced(
    targets: Float[Tensor, "B C"], labels: Int[Tensor, " B"], epsilon: float
) -> Float[Tensor, "B C"]:
    """Return ``(t_c + y_c) ** epsilon - y_c`` with the label's one-hot y; no distribution.

    >>> import torch
    >>> enhanced(torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([0]), 1.5)
    tensor([[1.0239, 0.1643, 0.0316]])
    """
    hit = at_label(labels, targets).to(targets.dtype)
    # What was rounded below 0 has no power.
    return (targets.clamp_min(0) + hit) ** epsilon - hit


@dataclass(frozen=True, slots=True)
class OFA:
    """Cross-entropy towards the enhanced target (One-for-All, arXiv 2310.19444).

    As read in its authors' code, but for the exits after each stage of the network, which are left
    out; the target's likeliest class as label, where nobody knows it, is ours. No factor of T
    squared. It is least at the enhanced target over its sum, so for another ``epsilon`` than 1 a
    student that agrees with its teacher does not lose least. Help is expected where clients run
    different architectures.

    Args:
        epsilon: Power, above 0; 1 is the soft cross-entropy. The authors take 1 on CIFAR, 1.5 from
            a transformer to a ResNet-18. An unknown label (below 0) leaves ``t ** epsilon``.
        temperature: T of the student's softmax; take that of the teacher's probabilities. The
            authors have 1.
        pseudo_labels: Whether the target's likeliest class serves where nobody knows the label.
    """

    epsilon: float = 1.0
    temperature: float = 1.0
    pseudo_labels: bool = True
    space: ClassVar[Space] = Space.PROBABILITIES
    wants: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        require_number("OFA", "epsilon", self.epsilon, above=0)
        require_number("OFA", "temperature", self.temperature, above=0)
        require_flag("OFA", "pseudo_labels", self.pseudo_labels)

    @property
    def least_where_agreeing(self) -> bool:
        """Whether a student that agrees with its teacher loses least."""
        return self.epsilon == 1

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], facts: Facts
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        assert facts.labels is not None
        log_student = (student_logits / self.temperature).log_softmax(dim=-1)
        return -(enhanced(targets, facts.labels, self.epsilon) * log_student).sum(dim=-1)
