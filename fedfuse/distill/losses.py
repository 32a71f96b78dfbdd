"""What a student minimises on the public set: logits [B, C] and targets [B, C] to losses [B].

One loss per sample, summed (or averaged, where said) over the classes; the trainer's mean over
them is then what torch calls 'batchmean'. Everything goes through ``log_softmax``, and
``0 log 0 = 0``, so neither huge logits nor zeros in a target, exact or a hair below, make a NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.shapes import Float
from fedfuse.types import Space
from fedfuse.validation import require_flag, require_number, require_one_of

EPS = 1e-8
"""Smallest target whose logarithm the reverse divergence takes."""


def kl_forward(
    student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], temperature: float = 1.0
) -> Float[Tensor, " B"]:
    """Return ``KL(t || softmax(z / T))``, nats; the student must cover whatever t calls likely.

    >>> kl_forward(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    tensor([0.6931])
    """
    log_student = (student_logits / temperature).log_softmax(dim=-1)
    return _forward(log_student, targets)


def kl_reverse(
    student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], temperature: float = 1.0
) -> Float[Tensor, " B"]:
    """Return ``KL(softmax(z / T) || t)``, nats; the student may settle on one mode of t.

    Targets below ``EPS`` count as ``EPS``: where t is zero the divergence would be infinite.
    """
    log_student = (student_logits / temperature).log_softmax(dim=-1)
    return _reverse(log_student, targets)


def soft_cross_entropy(
    student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], temperature: float = 1.0
) -> Float[Tensor, " B"]:
    """Return ``-sum_c t_c log softmax(z / T)_c``: forward KL plus the target's own entropy."""
    log_student = (student_logits / temperature).log_softmax(dim=-1)
    return -(targets * log_student).sum(dim=-1)


def mse_logits(
    student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
) -> Float[Tensor, " B"]:
    """Return the squared difference of logits, averaged over the classes."""
    return (student_logits - targets).square().mean(dim=-1)


def mae_logits(
    student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
) -> Float[Tensor, " B"]:
    """Return the absolute difference of logits, averaged over the classes."""
    return (student_logits - targets).abs().mean(dim=-1)


def divergences(
    log_student: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return the forward and the reverse divergence of a student's log-probabilities, nats."""
    return _forward(log_student, targets), _reverse(log_student, targets)


def _forward(log_student: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]) -> Tensor:
    return above_0((xlogx(targets) - targets * log_student).sum(dim=-1))


def _reverse(log_student: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]) -> Tensor:
    log_targets = targets.clamp_min(EPS).log()
    return above_0((log_student.exp() * (log_student - log_targets)).sum(dim=-1))


def xlogx(targets: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
    """Return ``t log t``; 0 for what was rounded to 0 or below it, as payloads allow.

    >>> xlogx(torch.tensor([-1e-8, 0.0, 1.0])).tolist()
    [0.0, 0.0, 0.0]
    """
    known = targets.clamp_min(0)
    return torch.xlogy(known, known)


def above_0(divergence: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return divergences that rounding has left below 0 as 0, with the gradients they had."""
    return divergence - divergence.detach().clamp_max(0)


@dataclass(frozen=True, slots=True)
class KL:
    """Kullback-Leibler divergence between teacher and student at a temperature.

    Args:
        temperature: T of the student's softmax; take that of the teacher's probabilities.
        scale_by_t2: Multiply by T squared, which keeps gradients of the same size for every T
            (Hinton et al., arXiv 1503.02531). The field is split: FedTED and GenFKD do it; FedDF,
            KT-pFL and Selective-FD do not.
        direction: ``forward``, KL(teacher || student), or ``reverse``.
    """

    temperature: float = 1.0
    scale_by_t2: bool = True
    direction: str = "forward"
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("KL", "temperature", self.temperature, above=0)
        require_flag("KL", "scale_by_t2", self.scale_by_t2)
        require_one_of("KL", "direction", self.direction, ("forward", "reverse"))

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        divergence = kl_forward if self.direction == "forward" else kl_reverse
        scale = self.temperature**2 if self.scale_by_t2 else 1.0
        return scale * divergence(student_logits, targets, self.temperature)


@dataclass(frozen=True, slots=True)
class SoftCrossEntropy:
    """Cross-entropy with soft targets (DS-FL, Selective-FD); no factor of T squared."""

    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("SoftCrossEntropy", "temperature", self.temperature, above=0)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        return soft_cross_entropy(student_logits, targets, self.temperature)


@dataclass(frozen=True, slots=True)
class MSELogits:
    """Mean squared error between logits; needs a rule that fuses logits."""

    space: ClassVar[Space] = Space.LOGITS

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        return mse_logits(student_logits, targets)


@dataclass(frozen=True, slots=True)
class MAELogits:
    """Mean absolute error between logits: FedMD's "digest", as read in its authors' code."""

    space: ClassVar[Space] = Space.LOGITS

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        return mae_logits(student_logits, targets)
