"""Learn from the teacher and from what one said oneself a lesson ago (MulKI, arXiv 2411.06764)."""

from __future__ import annotations

from collections.abc import Mapping
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
        own = at.own()
        targets = teachers.targets.float().cpu()
        probs = as_probabilities(targets, teachers.space, self.temperature)
        counts = torch.ones(targets.shape[:2], dtype=torch.bool)
        if teachers.sample_weight is not None:
            counts = teachers.sample_weight.cpu() > 0
        share, past = torch.ones(targets.shape[:2]), own.clone()
        for row, client_id in enumerate(teachers.client_ids.tolist()):
            memory = at.memory[client_id]
            known, past[row] = _remembered(memory, at.index, own[row])
            said = as_probabilities(past[row], Space.LOGITS, self.temperature)
            weight = teachers_weight(
                likeness(probs[row], counts[row]), likeness(said, counts[row] & known), self.tau
            )
            share[row] = torch.where(known, weight, 1)
            memory["two_teachers/index"] = at.index.clone()
            memory["two_teachers/said"] = own[row].clone()
        return mixed(teachers, at, share, self.temperature, past)


def _remembered(
    memory: Mapping[str, Tensor], index: Int[Tensor, " m"], own: Float[Tensor, "m C"]
) -> tuple[Bool[Tensor, " m"], Float[Tensor, "m C"]]:
    """Return of which samples a client has said something, and what; elsewhere what it says now."""
    if "two_teachers/index" not in memory:
        return torch.zeros(len(index), dtype=torch.bool), own
    before, said = memory["two_teachers/index"], memory["two_teachers/said"]
    at = torch.searchsorted(before, index).clamp_max(len(before) - 1)
    known = before[at] == index
    return known, torch.where(known.unsqueeze(1), said[at], own)
