"""Student, teacher and truth as the corners of a triangle: its sides, and losses between two."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.distill.losses import EPS, kl_forward
from fedfuse.shapes import Float, Int


def mixture(
    student_logits: Float[Tensor, "B C"],
    targets: Float[Tensor, "B C"],
    labels: Int[Tensor, " B"],
    alpha: Float[Tensor, " B"],
    temperature: float = 1.0,
) -> Float[Tensor, " B"]:
    """Return ``alpha T^2 KL(t || softmax(z / T)) + (1 - alpha) CE(z, y)``, nats.

    >>> z, t, y = torch.tensor([[0.7, 0.3]]).log(), torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> mixture(z, t, y, torch.tensor([0.5]))
    tensor([0.1896])
    """
    told = temperature**2 * kl_forward(student_logits, targets, temperature)
    known = functional.cross_entropy(student_logits, labels, reduction="none")
    return alpha * told + (1 - alpha) * known


def ratio(
    student_logits: Float[Tensor, "B C"],
    targets: Float[Tensor, "B C"],
    labels: Int[Tensor, " B"],
    temperature: float = 1.0,
) -> Float[Tensor, " B"]:
    """Return ``t_y / (t_y + p_y)``, without a gradient: a half where both are equally right.

    It is the sigmoid of the gap of their log-probabilities, with t at ``EPS`` at least.
    """
    own = (student_logits.detach() / temperature).log_softmax(dim=-1)
    gap = targets.clamp_min(EPS).log() - own
    return gap.gather(-1, labels.unsqueeze(-1)).squeeze(-1).sigmoid()


def class_means(targets: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, "B C"]:
    """Return for each sample the mean target of its class in the batch."""
    of_class = functional.one_hot(labels, targets.shape[1]).to(targets)
    return of_class @ (of_class.T @ targets / of_class.sum(dim=0).clamp_min(1).unsqueeze(1))


def triangle(
    student: Float[Tensor, "B C"],
    teacher: Float[Tensor, "B C"],
    labels: Int[Tensor, " B"],
    mean_teacher: Float[Tensor, "B C"],
) -> Float[Tensor, "B F"]:
    """Return the 9C features of each sample: probabilities, truth, and squared differences.

    Args:
        student: The student's probabilities.
        teacher: The teacher's.
        labels: The truth.
        mean_teacher: What the teacher says of the sample's class (:func:`class_means`).
    """
    truth = functional.one_hot(labels, student.shape[1]).to(student)
    sides = (
        mean_teacher - student,
        truth - student,
        teacher - student,
        teacher - truth,
        mean_teacher - truth,
    )
    corners = (student, teacher, truth, mean_teacher)
    return torch.cat([*corners, *(side.square() for side in sides)], dim=1)
