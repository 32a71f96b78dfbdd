"""Learn from the teacher and from what one said oneself a lesson ago (MulKI, arXiv 2411.06764)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.arrival import Arrival
from fedfuse.fusion.gate import as_probabilities
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import Space, Teachers
from fedfuse.uptake.own_or_teacher import mixed
from fedfuse.validation import require_number


def likeness(probs: Float[Tensor, "m C"], counts: Bool[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Return how typical each prediction is of its class: its cosine to the class's mean.

    A prediction's class is its most probable one; its mean is that of all of this class that count.

    Args:
        probs: Predictions of one teacher.
        counts: Which ones enter the means.

    >>> likeness(torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0]]), torch.tensor([1, 1, 0]).bool())
    tensor([0.9701, 0.9417, 0.0000])
    """
    named = probs.argmax(dim=1)
    sums = torch.zeros(probs.shape[1], probs.shape[1], dtype=probs.dtype)
    sums = sums.index_add(0, named[counts], probs[counts])
    return functional.cosine_similarity(probs, sums[named], dim=1)


def teachers_weight(
    teacher: Float[Tensor, " m"], past: Float[Tensor, " m"], tau: float
) -> Float[Tensor, " m"]:
    """Return the first one's share of a softmax over two likenesses.

    >>> teachers_weight(torch.tensor([0.9]), torch.tensor([0.5]), tau=1.0)
    tensor([0.5987])
    """
    return torch.sigmoid((teacher - past) / tau)


@dataclass(frozen=True, slots=True)
class TwoTeachers:
    """Mix the teacher with what the client said itself before its last lesson.

    Of each of the two, a sample's weight is a softmax over how typical its prediction is of the
    class that it names: the cosine to the mean of all that this teacher says of the class in the
    round. A sample of which the client has said nothing in the last lesson has the teacher alone.
    The paper's prototypes are of features; this form is ours.

    Args:
        tau: Temperature of the softmax over the two.
        temperature: Of the softmaxes over classes.
    """

    tau: float = 1.0
    temperature: float = 1.0
    remembers_samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("TwoTeachers", "tau", self.tau, above=0)
        require_number("TwoTeachers", "temperature", self.temperature, above=0)

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers:
        """Return the teachers with mixed targets; remember what the clients say now."""

        def alike(
            _: int, theirs: Tensor, said: Tensor, counts: Tensor, known: Tensor
        ) -> tuple[Tensor, Tensor]:
            return likeness(theirs, counts), likeness(said, counts & known)

        return with_the_past(teachers, at, alike, self.tau, self.temperature)


Alike = Callable[[int, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""A client's row, its teacher's probabilities [m, C] and those that it gave itself a lesson ago,
which samples count [m] and of which it has said something [m], to how alike each sample is to what
either of the two says, [m] both."""


def with_the_past(
    teachers: Teachers,
    at: Arrival,
    alike: Alike,
    tau: float,
    temperature: float,
    key: str = "two_teachers",
) -> Teachers:
    """Return the teachers mixed with what the clients said before their last lesson.

    A sample's shares are a softmax over how alike it is to either of the two. What the clients say
    now takes the place of what they said, in their memories.

    Args:
        teachers: What came.
        at: What the clients know beside it.
        alike: How alike samples are to either.
        tau: Temperature of the softmax over the two.
        temperature: Of the softmaxes over classes.
        key: Under which a client remembers what it said.
    """
    own = at.own()
    targets = teachers.targets.float().cpu()
    probs = as_probabilities(targets, teachers.space, temperature)
    counts = torch.ones(targets.shape[:2], dtype=torch.bool)
    if teachers.sample_weight is not None:
        counts = teachers.sample_weight.cpu() > 0
    share, past = torch.ones(targets.shape[:2]), own.clone()
    for row, client_id in enumerate(teachers.client_ids.tolist()):
        memory = at.memory[client_id]
        known, past[row] = _remembered(memory, key, at.index, own[row])
        said = as_probabilities(past[row], Space.LOGITS, temperature)
        weight = teachers_weight(*alike(row, probs[row], said, counts[row], known), tau)
        share[row] = torch.where(known, weight, 1)
        memory[f"{key}/index"] = at.index.clone()
        memory[f"{key}/said"] = own[row].clone()
    return mixed(teachers, at, share, temperature, past)


def _remembered(
    memory: Mapping[str, Tensor], key: str, index: Int[Tensor, " m"], own: Float[Tensor, "m C"]
) -> tuple[Bool[Tensor, " m"], Float[Tensor, "m C"]]:
    """Return of which samples a client has said something, and what; elsewhere what it says now."""
    if f"{key}/index" not in memory:
        return torch.zeros(len(index), dtype=torch.bool), own
    before, said = memory[f"{key}/index"], memory[f"{key}/said"]
    at = torch.searchsorted(before, index).clamp_max(len(before) - 1)
    known = before[at] == index
    return known, torch.where(known.unsqueeze(1), said[at], own)
