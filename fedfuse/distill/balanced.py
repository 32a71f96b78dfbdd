"""Forward and reverse divergence, mixed sample by sample by who of the two is surer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.distill.losses import divergences, xlogx
from fedfuse.errors import ParameterError
from fedfuse.shapes import Float
from fedfuse.types import Space
from fedfuse.validation import require_flag, require_number

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class BalancedKL:
    """Weigh KL(t || p) and KL(p || t) by which of student and teacher is surer (BD-KD, 2212.12965).

    Surer is who has the smaller entropy; it decides and has no gradient. The paper balances both
    divergences by the gap of the entropies; which side gets the larger weight, and the numbers,
    are ours.

    Args:
        temperature: T of the student's softmax; take that of the teacher's probabilities.
        over: Weights of the forward and the reverse divergence where the student is surer.
        under: The same where it is not, equal entropies included.
        scale_by_t2: Multiply by T squared, as :class:`~fedfuse.distill.KL` does.
    """

    temperature: float = 1.0
    over: Pair = (2.0, 1.0)
    under: Pair = (1.0, 2.0)
    scale_by_t2: bool = True
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("BalancedKL", "temperature", self.temperature, above=0)
        require_flag("BalancedKL", "scale_by_t2", self.scale_by_t2)
        for name in ("over", "under"):
            object.__setattr__(self, name, _pair(name, getattr(self, name)))
        if not any(self.over + self.under):
            raise ParameterError(
                "BalancedKL", "over", [*self.over], "a weight above 0, here or in 'under'"
            )

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample.

        >>> BalancedKL()(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.6, 0.4]]))
        tensor([0.7017])
        """
        log_student = (student_logits / self.temperature).log_softmax(dim=-1)
        forward, reverse = divergences(log_student, targets)
        known = log_student.detach()
        gap = (known.exp() * known - xlogx(targets)).sum(dim=-1)
        surer = gap > 0  # H(t) > H(p)
        a, b = (torch.where(surer, *both) for both in zip(self.over, self.under, strict=True))
        scale = self.temperature**2 if self.scale_by_t2 else 1.0
        return scale * (a * forward + b * reverse)


def _pair(name: str, given: object) -> Pair:
    """Return two weights, or refuse what is something else."""
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
        allowed = "two weights, of the forward and of the reverse divergence"
        raise ParameterError("BalancedKL", name, given, allowed)
    for weight in given:
        require_number("BalancedKL", name, weight, at_least=0)
    return float(given[0]), float(given[1])
