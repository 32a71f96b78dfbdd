"""TIES: trim what hardly moved, elect a sign for each number, merge what agrees with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.merge.protocol import Vectors
from fedfuse.shapes import Float
from fedfuse.validation import require_number, require_one_of


def trimmed(task_vectors: Float[Tensor, "k N"], keep: float) -> Float[Tensor, "k N"]:
    """Return task vectors of whose numbers only the largest stay: ``ceil(keep N)`` of each row.

    Of equally large ones the first stay.

    >>> trimmed(torch.tensor([[1.0, -2.0, 0.0, 1.0]]), 0.5)
    tensor([[ 1., -2.,  0.,  0.]])
    """
    # Less a little, because 0.7 * 10 is above 7.
    count = max(1, math.ceil(keep * task_vectors.shape[1] - 1e-9))
    size = task_vectors.abs()
    least = size.kthvalue(size.shape[1] - count + 1, dim=1, keepdim=True).values
    larger, equal = size > least, size == least
    room = count - larger.sum(dim=1, keepdim=True)
    return torch.where(larger | (equal & (equal.cumsum(dim=1) <= room)), task_vectors, 0)


def elected(task_vectors: Float[Tensor, "k N"]) -> Float[Tensor, " N"]:
    """Return the sign of each number's sum; of a sum of 0 that of most numbers, else plus.

    >>> elected(torch.tensor([[1.0, -2.0, 1.0, -1.0], [-0.5, -1.0, -1.0, 0.0]]))
    tensor([ 1., -1., -1., -1.])
    """
    signs = task_vectors.sum(dim=0).sign()
    most = signs.sum().sign()
    return torch.where(signs == 0, torch.where(most == 0, 1, most), signs)


def ties(task_vectors: Float[Tensor, "k N"], keep: float, merge: str) -> Float[Tensor, " N"]:
    """Return the mean or the sum of the trimmed numbers that have the elected sign; 0 for none.

    >>> ties(torch.tensor([[1.0, -2.0, 0.0, 0.1], [-0.5, -1.0, 0.2, 0.0]]), 0.5, "mean")
    tensor([ 1.0000, -1.5000,  0.0000,  0.0000])
    """
    kept = trimmed(task_vectors, keep)
    agreeing = torch.where(kept.sign() == elected(kept), kept, 0)
    total = agreeing.sum(dim=0)
    return total / (agreeing != 0).sum(dim=0).clamp_min(1) if merge == "mean" else total


@dataclass(frozen=True, slots=True)
class Ties:
    """The base, moved by ``scale`` times :func:`ties` (Yadav et al. 2023, arXiv 2306.01708).

    Every model counts alike.

    Args:
        keep: Share of each model's numbers that stays, above 0 and at most 1.
        scale: From 0 upwards.
        merge: ``mean`` of the numbers that agree, or their ``sum``.
    """

    keep: float = 0.2
    scale: float = 1.0
    merge: str = "mean"
    needs_base: ClassVar[bool] = True
    by_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_number("Ties", "keep", self.keep, above=0, at_most=1)
        require_number("Ties", "scale", self.scale, at_least=0)
        require_one_of("Ties", "merge", self.merge, ("mean", "sum"))

    def __call__(self, models: Vectors, receivers: Tensor) -> Float[Tensor, "1 N"]:  # noqa: ARG002
        """Return one row for all."""
        return models.moved(self.scale * ties(models.task_vectors(), self.keep, self.merge))
