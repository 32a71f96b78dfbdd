"""What a fusion says of its samples: the clients' mean prediction, the target, how good each is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.validation import require_count, require_number

TINY = 1e-12
"""Least probability of which a logarithm is taken."""


BLOCK = 64
"""Clients whose predictions are looked at together."""
CLOSE = 1e-5
"""Scores nearer than this are alike: what rounding makes of equal ones must not decide."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is known of the samples of one fusion on which somebody answered.

    Args:
        rows: int64 [n], which of the round's samples these are.
        students: float32 [n, C], the mean of the answering clients' probabilities.
        losses: float32 [n], the mean of their cross-entropies to ``labels``.
        teacher: float32 [n, C], the fused target's, the mean over the receivers it counts for.
        labels: int64 [n], public labels, or what the target calls likeliest.
    """

    rows: Int[Tensor, " n"]
    students: Float[Tensor, "n C"]
    losses: Float[Tensor, " n"]
    teacher: Float[Tensor, "n C"]
    labels: Int[Tensor, " n"]


def lesson_of(bank: KnowledgeBank, teachers: Teachers, labels: Tensor | None) -> Lesson:
    """Return what a fusion says of the samples that somebody answered and somebody is taught.

    Args:
        bank: What k clients sent.
        teachers: What was made of it.
        labels: Public labels [m]; None takes what the target calls likeliest.
    """
    shape = bank.logits.shape
    targets, counts = torch.zeros(shape[1:]), torch.zeros(shape[1])
    for row, part in enumerate(teachers.targets):
        probs = part.float().softmax(dim=-1) if teachers.space is Space.LOGITS else part.float()
        there = torch.ones(shape[1])
        if teachers.sample_weight is not None:
            there = (teachers.sample_weight[row] > 0).float()
        targets += there.unsqueeze(1) * probs
        counts += there
    teacher = targets / counts.clamp_min(1).unsqueeze(1)
    truth = teacher.argmax(dim=-1) if labels is None else labels
    said, losses, heard = torch.zeros(shape[1:]), torch.zeros(shape[1]), torch.zeros(shape[1])
    for begin in range(0, shape[0], BLOCK):
        logs = bank.logits[begin : begin + BLOCK].float().log_softmax(dim=-1)
        there = torch.ones(logs.shape[:2])
        if bank.mask is not None:
            there = bank.mask[begin : begin + BLOCK].float()
        said += torch.einsum("kmc,km->mc", logs.exp(), there)
        wrong = -logs.gather(2, truth.expand(len(logs), -1).unsqueeze(2)).squeeze(2)
        losses += (wrong * there).sum(dim=0)
        heard += there.sum(dim=0)
    rows = ((heard > 0) & (counts > 0)).nonzero().flatten()
    mean = said[rows] / heard[rows].unsqueeze(1)
    return Lesson(rows, mean, losses[rows] / heard[rows], teacher[rows], truth[rows])


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


def require_budget(owner: str, share: object, size: object) -> None:
    """Raise unless a share and a size are what :func:`budget` takes, naming their owner."""
    require_number(owner, "share", share, above=0, at_most=1)
    if size is not None:
        require_count(owner, "size", size)


def budget(size: int | None, share: float, num_samples: int) -> int:
    """Return how many of a round's samples are chosen: ``size``, or a share of them, at least one.

    >>> budget(None, 0.5, 5), budget(None, 0.55, 100), budget(3, 0.5, 5), budget(9, 0.5, 5)
    (3, 55, 3, 5)
    """
    # 0.55 * 100 is a little more than 55.
    wanted = math.ceil(share * num_samples - 1e-9) if size is None else size
    return min(max(wanted, 1), num_samples)


def coarse(scores: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Return scores in whole :data:`CLOSE`, so that rounding decides nothing, or next to nothing.

    >>> coarse(torch.tensor([0.5, 0.500001])).diff()
    tensor([0.], dtype=torch.float64)
    """
    return (scores.double() / CLOSE).round()


def best(scores: Float[Tensor, " m"], count: int, *, unknown: str = "first") -> Bool[Tensor, " m"]:
    """Return the ``count`` samples with the largest scores; ties (:data:`CLOSE`) by index.

    Args:
        scores: NaN where nothing is known.
        count: At least one, at most m.
        unknown: Whether samples of which nothing is known come ``first`` or ``last``.

    >>> best(torch.tensor([0.1, 0.7, 0.7, 0.2]), 2).tolist()
    [False, True, True, False]
    """
    filled = coarse(scores).nan_to_num(nan=torch.inf if unknown == "first" else -torch.inf)
    order = filled.sort(descending=True, stable=True).indices
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[order[: min(max(count, 1), len(scores))]] = True
    return chosen
