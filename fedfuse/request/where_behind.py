"""Samples on which clients are behind their teacher, and some of the others (CoMD, 2311.08213)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.request.knowledge import budget, coarse, require_budget
from fedfuse.request.pairs import mean_there, own_and_taught
from fedfuse.request.remembering import Remembering
from fedfuse.rng import Streams
from fedfuse.select.selections import round_half_up
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.validation import require_count, require_number, require_one_of

MEASURES = ("cross_entropy", "confidence")
"""What a client may be behind in."""


def gap(
    teacher: Float[Tensor, "*batch m C"],
    student: Float[Tensor, "*batch m C"],
    measure: str,
    labels: Int[Tensor, " m"] | None = None,
) -> Float[Tensor, "*batch m"]:
    """Return by how much the teacher's score is above the student's.

    >>> teacher, student = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])
    >>> gap(teacher, student, "confidence"), gap(teacher, student, "cross_entropy")
    (tensor([0.4000]), tensor([0.5878]))
    """
    if measure == "confidence":
        return teacher.amax(dim=-1) - student.amax(dim=-1)
    at = teacher.argmax(dim=-1) if labels is None else labels.to(teacher.device)
    at = at.expand(teacher.shape[:-1]).unsqueeze(-1)
    tiny = torch.finfo(teacher.dtype).tiny
    scores = [side.gather(-1, at).squeeze(-1).clamp_min(tiny).log() for side in (teacher, student)]
    return scores[0] - scores[1]


def hard_and_some_easy(
    gap: Float[Tensor, " m"],
    delta: float,
    easy: float,
    number: int,
    noise: Float[Tensor, " m"],
) -> Bool[Tensor, " m"]:
    """Return ``number`` samples: those of the largest gaps, and some that have none above delta.

    Of the latter as many as ``easy`` says, drawn by the noise; where either kind runs short, more
    of the other.

    Args:
        gap: By how much the teacher is ahead.
        delta: Above which a sample is hard.
        easy: Share of the number.
        number: At most m.
        noise: Uniform.

    >>> gap = torch.tensor([0.4, -0.2, 0.05])
    >>> hard_and_some_easy(gap, 0.1, 0.5, 2, torch.tensor([0.3, 0.2, 0.1]))
    tensor([ True, False,  True])
    """
    gap = coarse(gap)
    hard = gap > coarse(torch.tensor(delta))
    num_hard = int(hard.sum())
    some = min(round_half_up(easy * number), len(gap) - num_hard)
    some = max(some, number - num_hard)
    # Ascending: the hard ones, the largest gap first, or the easy ones by their noise.
    chosen = torch.zeros_like(hard)
    chosen[torch.where(hard, -gap, torch.inf).argsort(stable=True)[: number - some]] = True
    chosen[torch.where(hard, torch.inf, noise).argsort(stable=True)[:some]] = True
    return chosen


@dataclass(frozen=True, slots=True)
class WhereBehind(Remembering):
    """Ask for the samples on which clients were behind their teachers, and for some others.

    Args:
        share: Of the round's samples, how many are asked for.
        size: How many instead; None for the share.
        delta: A sample is hard where the mean gap over the clients is above this.
        easy: Share of what is asked for that is drawn from the others.
        measure: What a client may be behind in: ``cross_entropy``, minus that of the public label,
            or of what the teacher calls likeliest where there are no labels; or ``confidence``, the
            largest probability. A teacher that is the plain mean of its sources is never surer than
            they are in the mean.
        seed: Of what is drawn.
    """

    share: float = 0.5
    size: int | None = None
    delta: float = 0.1
    easy: float = 0.5
    measure: str = "cross_entropy"
    seed: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    remembers_samples: ClassVar[bool] = True
    pseudo_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_budget("WhereBehind", self.share, self.size)
        require_number("WhereBehind", "delta", self.delta)
        require_number("WhereBehind", "easy", self.easy, at_least=0, at_most=1)
        require_one_of("WhereBehind", "measure", self.measure, MEASURES)
        require_count("WhereBehind", "seed", self.seed, at_least=0)

    def __call__(
        self,
        round: int,  # noqa: A002
        index: Int[Tensor, " m"],
        client_ids: Sequence[int],  # noqa: ARG002
    ) -> Bool[Tensor, " m"]:
        """Return which samples everybody is asked for."""
        behind = self.known("gap", index)
        if behind is None:
            return torch.ones(len(index), dtype=torch.bool)
        number = budget(self.size, self.share, len(index))
        draw = Streams(self.seed).torch("request", "where_behind", round)
        noise = torch.rand(len(index), generator=draw)
        # Of what nothing is known is taken to be hard.
        return hard_and_some_easy(
            behind.nan_to_num(torch.inf), self.delta, self.easy, number, noise
        )

    @torch.no_grad()
    def note(
        self,
        bank: KnowledgeBank,
        teachers: Teachers,
        labels: Int[Tensor, " m"] | None,
        round: int,  # noqa: A002, ARG002
        index: Int[Tensor, " m"],
    ) -> None:
        """Remember how far behind they were."""
        own, taught, there = own_and_taught(bank, teachers)
        told = there.any(dim=0)
        behind = mean_there(gap(taught, own, self.measure, labels), there)
        self.remember("gap", index[told], behind[told])
