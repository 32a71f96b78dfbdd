"""Samples of which teacher and clients are sure together (KD3, arXiv 2307.11469)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.interpolation import linear
from fedfuse.request.knowledge import budget, coarse, require_budget
from fedfuse.request.pairs import mean_there, own_and_taught
from fedfuse.request.remembering import Remembering
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.validation import require_count, require_number


def most_confident(
    confidence: Float[Tensor, " m"],
    classes: Int[Tensor, " m"],
    number: int,
    quota: int | None = None,
) -> Bool[Tensor, " m"]:
    """Return the ``number`` surest samples, ties by index, at most ``quota`` of a class.

    >>> most_confident(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1]), 2, quota=1)
    tensor([ True, False,  True])
    """
    order = coarse(confidence).argsort(descending=True, stable=True)
    if quota is not None:
        grouped = classes[order].argsort(stable=True)
        counts = classes.bincount()
        first = (counts.cumsum(0) - counts)[classes[order][grouped]]
        place = torch.empty_like(order)
        place[grouped] = torch.arange(len(order), device=order.device) - first
        order = order[place < quota]
    chosen = torch.zeros(len(confidence), dtype=torch.bool, device=confidence.device)
    chosen[order[:number]] = True
    return chosen


@dataclass(frozen=True, slots=True)
class JointlyConfident(Remembering):
    """Ask for the samples of which clients and their teachers were the surest together.

    The confidence of a sample is the mean over the clients of the largest probability of
    ``eta * teacher + (1 - eta) * own``, as they last answered it; ``eta`` falls from 1 at the first
    exchange that anything is known for to ``eta_end``, ``ramp_rounds`` exchanges later. Samples of
    which nothing is known come first.

    Args:
        share: Of the round's samples, how many are asked for.
        size: How many instead; None for the share.
        theta: Ask for those surer than this instead, and for the surest one at least; None for a
            number of them.
        eta_end: How much the teacher counts in the end, from 0 to 1.
        ramp_rounds: Exchanges until then.
        quota: Most samples of one class, the one that both together call likeliest; None for any.
    """

    share: float = 0.5
    size: int | None = None
    theta: float | None = None
    eta_end: float = 0.5
    ramp_rounds: int = 10
    quota: int | None = None
    memory: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    remembers_samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        owner = "JointlyConfident"
        require_budget(owner, self.share, self.size)
        require_number(owner, "eta_end", self.eta_end, at_least=0, at_most=1)
        require_count(owner, "ramp_rounds", self.ramp_rounds)
        if self.quota is not None:
            require_count(owner, "quota", self.quota)
        if self.theta is not None:
            require_number(owner, "theta", self.theta, at_least=0, below=1)

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        index: Int[Tensor, " m"],
        client_ids: Sequence[int],  # noqa: ARG002
    ) -> Bool[Tensor, " m"]:
        """Return which samples everybody is asked for."""
        sure, classes = self.known("confidence", index), self.known("classes", index)
        if sure is None or classes is None:
            return torch.ones(len(index), dtype=torch.bool)
        unknown = sure.isnan()
        number = budget(self.size, self.share, len(index))
        if self.theta is not None:
            number = max(1, int((unknown | (sure > self.theta)).sum()))
        # Of which nothing is known is of a class of its own each, which no quota fills.
        filler = int(classes.nan_to_num(-1).max()) + 1 + torch.arange(len(index))
        named = torch.where(unknown, filler, classes.nan_to_num(0).long())
        return most_confident(sure.nan_to_num(torch.inf), named, number, self.quota)

    @torch.no_grad()
    def note(
        self,
        bank: KnowledgeBank,
        teachers: Teachers,
        labels: Int[Tensor, " m"] | None,  # noqa: ARG002
        round: int,  # noqa: A002, ARG002
        index: Int[Tensor, " m"],
    ) -> None:
        """Remember how sure both were."""
        own, taught, there = own_and_taught(bank, teachers)
        exchanges = self.memory.get("exchanges", torch.tensor(0))
        mixed = torch.lerp(
            own, taught, linear(1.0, self.eta_end, float(exchanges) / self.ramp_rounds)
        )
        self.memory["exchanges"] = exchanges + 1
        told = there.any(dim=0)
        self.remember("confidence", index[told], mean_there(mixed.amax(dim=-1), there)[told])
        self.remember("classes", index[told], mean_there(mixed, there).argmax(dim=-1)[told].float())
