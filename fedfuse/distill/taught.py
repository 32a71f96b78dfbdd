"""A teacher beside the labels of the same samples, in more columns of their targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fedfuse.distill.losses import KL
from fedfuse.shapes import Float
from fedfuse.train.sides import split_targets, widened
from fedfuse.train.work import SampleLoss, Work


@dataclass(frozen=True, slots=True)
class AlsoTaught:
    """``loss(z, y) + weight * T**2 KL(t || softmax(z / T))``.

    Targets hold what the loss learns from and, in their last C columns, t; rows of zeros teach
    nothing.

    >>> import torch
    >>> from fedfuse.local_loss import cross_entropy
    >>> loss = AlsoTaught(cross_entropy, weight=2.0)
    >>> loss(torch.zeros(2, 2), torch.tensor([[1, 1.0, 0.0], [0, 0.0, 0.0]]))
    tensor([2.0794, 0.6931])

    Args:
        loss: What the labels are learned by.
        weight: Of the teacher.
        temperature: T of both softmaxes.
    """

    loss: SampleLoss
    weight: float = 1.0
    temperature: float = 1.0

    def __call__(self, logits: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, " B"]:
        """Return one loss per sample, [B]."""
        own, teacher = split_targets(targets, logits.shape[1])
        return self.loss(logits, own) + self.weight * KL(self.temperature)(logits, teacher)


def also_taught(
    work: Work, teacher: Float[Tensor, "N C"], weight: float, temperature: float
) -> Work:
    """Return the work with a teacher beside its labels, one row for each of its samples."""
    targets = widened(work.targets, teacher.to(work.targets.device))
    return replace(work, targets=targets, loss=AlsoTaught(work.loss, weight, temperature))
