"""What a fusion says of its samples: the clients' mean prediction, the target, how good each is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space, Teachers

TINY = 1e-12
"""Least probability of which a logarithm is taken."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is known of the samples of one fusion on which somebody answered.

    Args:
        rows: int64 [n], which of the round's samples these are.
        students: float32 [n, C], the mean of the answering clients' probabilities.
        teacher: float32 [n, C], the fused target's, the mean over the receivers it counts for.
        labels: int64 [n], public labels, or what the target calls likeliest.
    """

    rows: Int[Tensor, " n"]
    students: Float[Tensor, "n C"]
    teacher: Float[Tensor, "n C"]
    labels: Int[Tensor, " n"]


def lesson_of(bank: KnowledgeBank, teachers: Teachers, labels: Tensor | None) -> Lesson:
    """Return what a fusion says of the samples that somebody answered and somebody is taught.

    Args:
        bank: What k clients sent.
        teachers: What was made of it.
        labels: Public labels [m]; None takes what the target calls likeliest.
    """
    said, heard = _mean(bank.logits.float().softmax(dim=-1), bank.mask)
    targets = teachers.targets.float()
    if teachers.space is Space.LOGITS:
        targets = targets.softmax(dim=-1)
    weight = teachers.sample_weight
    taught, counts = _mean(targets, None if weight is None else weight > 0)
    rows = (heard & counts).nonzero().flatten()
    teacher = taught[rows]
    known = teacher.argmax(dim=-1) if labels is None else labels[rows]
    return Lesson(rows, said[rows], teacher, known)


def _mean(
    probs: Float[Tensor, "k m C"], there: Bool[Tensor, "k m"] | None
) -> tuple[Float[Tensor, "m C"], Bool[Tensor, " m"]]:
    """Return the mean over the clients for which a sample is there, and for which it is for any."""
    if there is None:
        return probs.mean(dim=0), torch.ones(probs.shape[1], dtype=torch.bool)
    count = there.sum(dim=0)
    total = torch.einsum("kmc,km->mc", probs, there.to(probs))
    return total / count.clamp_min(1).unsqueeze(1), count > 0


def cross_entropy(probs: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``-log p_y`` of each sample.

    >>> cross_entropy(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    tensor([0.6931])
    """
    return -probs.gather(1, labels.unsqueeze(1)).squeeze(1).clamp_min(TINY).log()


def entropy(probs: Float[Tensor, "*n C"]) -> Float[Tensor, "*n"]:
    """Return ``-sum p log p`` of each sample.

    >>> entropy(torch.tensor([1.0, 0.0])), entropy(torch.tensor([0.5, 0.5]))
    (tensor(0.), tensor(0.6931))
    """
    each: Tensor = torch.special.entr(probs)
    return each.sum(dim=-1)


def budget(size: int | None, share: float, num_samples: int) -> int:
    """Return how many of a round's samples are chosen: ``size``, or a share of them, at least one.

    >>> budget(None, 0.5, 5), budget(3, 0.5, 5), budget(9, 0.5, 5)
    (3, 3, 5)
    """
    wanted = math.ceil(share * num_samples) if size is None else size
    return min(max(wanted, 1), num_samples)


def best(scores: Float[Tensor, " m"], count: int, *, unknown: str = "first") -> Bool[Tensor, " m"]:
    """Return the ``count`` samples with the largest scores; ties by index.

    Args:
        scores: NaN where nothing is known.
        count: At least one, at most m.
        unknown: Whether samples of which nothing is known come ``first`` or ``last``.

    >>> best(torch.tensor([0.1, 0.7, 0.7, 0.2]), 2).tolist()
    [False, True, True, False]
    """
    filled = scores.nan_to_num(nan=torch.inf if unknown == "first" else -torch.inf)
    order = filled.sort(descending=True, stable=True).indices
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[order[: min(max(count, 1), len(scores))]] = True
    return chosen
