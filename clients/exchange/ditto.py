"""Ditto: models are averaged as in FedAvg, and each client keeps a model of its own near the mean.

Ditto trains two models. In the local epochs one step moves both with one batch, as in the paper's
algorithm, where both are trained in every round; it counts as one optimiser step and costs a
forward and a backward pass of the averaged model more. Distillation's steps train the personal
model alone. So the personal model takes as many steps as local training does, with the same
samples, and ``lam=0`` is local training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from clients.exchange.models import KeepsOwn, SideBySide, as_personal, as_shared, take
from clients.exchange.protocol import Task, Tools
from fedfuse.exchange.models import ModelBank
from fedfuse.exchange.weights import ditto_term
from fedfuse.local_loss import cross_entropy
from fedfuse.train.trainer import Student
from fedfuse.train.work import Penalty, SampleLoss
from fedfuse.validation import require_number, require_one_of


@dataclass(frozen=True, slots=True)
class Ditto(KeepsOwn):
    """Average models, keep personal ones near them (Li et al. 2021, arXiv 2012.04221).

    Args:
        lam: Pull of a personal model towards the average; 0 is local training.
        mixed: ``refuse`` more than one architecture, or ``group``: average within each.
        buffers: ``average`` them too, or leave each client its ``own`` (batch norm statistics).
    """

    lam: float = 0.5
    mixed: str = "refuse"
    buffers: str = "average"
    last_suffices: ClassVar[bool] = True
    extra: ClassVar[str] = "a step of the local epochs moves both models of a client"

    def __post_init__(self) -> None:
        require_number("Ditto", "lam", self.lam, at_least=0)
        require_one_of("Ditto", "mixed", self.mixed, ("refuse", "group"))
        require_one_of("Ditto", "buffers", self.buffers, ("average", "own"))

    def train(
        self, held: Sequence[Student], tools: Tools, round_: int, *, exchanging: bool
    ) -> list[Task]:
        """Return the local epochs: of the personal model in warm-up, then of both."""
        works = tools.work_plan.local([student.client_id for student in held], round_)
        if not exchanging:
            return [(as_personal(student), work) for student, work in zip(held, works, strict=True)]
        return [
            (
                replace(student, model=SideBySide(student.model)),
                replace(
                    work,
                    loss=BothLearn(work.loss),
                    penalty=_of_personal(self._pull(student, tools)),
                ),
            )
            for student, work in zip(held, works, strict=True)
        ]

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: ModelBank
    ) -> list[Task]:
        """Take the average over; return the steps of the personal model near it."""
        layout = self.layout(held[0])
        for student, vector in zip(held, received.vectors(), strict=True):
            take(student, layout, vector)
            tools.memory(student.client_id)["exchange/averaged"] = torch.tensor(True)
        works = tools.work_plan.budget_matched([student.client_id for student in held], round_)
        return [
            (as_personal(student), replace(work, penalty=self._pull(student, tools)))
            for student, work in zip(held, works, strict=True)
        ]

    def _pull(self, student: Student, tools: Tools) -> Penalty | None:
        """Return the pull towards the last average; None where there is none."""
        if self.lam == 0 or "exchange/averaged" not in tools.memory(student.client_id):
            return None
        average = as_shared(student).model
        anchor = {name: value.detach().clone() for name, value in average.named_parameters()}
        return lambda model: ditto_term(dict(model.named_parameters()), anchor, self.lam)


def _of_personal(pull: Penalty | None) -> Penalty | None:
    """Return what pulls the personal one of two models side by side."""
    if pull is None:
        return None
    return lambda both: pull(both.twins.personal)  # type: ignore[arg-type, union-attr]


@dataclass(frozen=True, slots=True)
class BothLearn:
    """``CE(y, v) + CE(y, w)`` of the logits of both models side by side; each moves by its own."""

    loss: SampleLoss = cross_entropy

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample, [B]."""
        personal, shared = logits.chunk(2, dim=1)
        return self.loss(personal, targets) + self.loss(shared, targets)
