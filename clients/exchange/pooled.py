"""`centralised`: one model learns from all private data in one place. The upper bound; no method.

The first client of each architecture trains on the pool and everybody gets its model. Nothing of
this could travel in a federation, so no bytes are counted. It takes as many optimiser steps as all
clients of another method together, so it passes over the samples as often as they do: fewer in a
round in which some of those rest or fail, though its own data never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from clients.exchange.models import SharesModels, bank_of, layouts, take
from clients.exchange.protocol import Task, Tools
from clients.training.settings import BUDGETS
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData
from fedfuse.validation import require_one_of


@dataclass(frozen=True, slots=True)
class Pooled(SharesModels):
    """Train one model per architecture on the private data of all clients.

    Args:
        budget: ``rounds`` takes the local epochs only; any other adds, for each client, what
            distillation costs.
    """

    budget: str = "optimiser_steps"
    buffers: ClassVar[str] = "average"  # type: ignore[misc]
    needs_all_private_data: ClassVar[bool] = True
    sends_of_samples: ClassVar[str] = "all private data"
    extra: ClassVar[str] = "one client of each architecture takes the steps of all"

    def __post_init__(self) -> None:
        require_one_of("Pooled", "budget", self.budget, BUDGETS)

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return model vectors that do not count."""
        return replace(SharesModels.kind(self, models, data), counted=False, pooled=True)

    def average(self, models: ModelPlan, data: FederatedData) -> AverageModels:
        """Return what hands on the trained model: the weights of all others are zero."""
        return AverageModels(*layouts(models, data, mixed="group", buffers="average"))

    def train(
        self, held: Sequence[Student], tools: Tools, round_: int, *, exchanging: bool
    ) -> list[Task]:
        """Return steps on all private data, of the client that learns for its architecture."""
        work_plan, clients = tools.work_plan, tools.inputs.data.clients
        who = [s for s in held if s.client_id == self._teacher(s, tools)]
        if not who:
            return []
        everyone = [client.client_id for client in clients]
        present = everyone if tools.present is None else list(tools.present)
        cost = sum(work_plan.passes(present))
        if exchanging and self.budget != "rounds":
            cost += sum(work_plan.spare([i for i in everyone if tools.taught(i)], round_))
        client_ids = [student.client_id for student in who]
        pool = [self._others(student, tools) for student in who]
        works = work_plan.private(client_ids, "train", round_, [cost] * len(who), pool)
        return list(zip(who, works, strict=True))

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> ModelBank:  # noqa: ARG002
        """Return the models; those that have not learnt weigh nothing."""
        sizes = [int(s.client_id == self._teacher(s, tools)) for s in held]
        return bank_of(held, self.layout(held[0]), sizes)

    def learn(
        self,
        held: Sequence[Student],
        tools: Tools,  # noqa: ARG002
        round_: int,  # noqa: ARG002
        received: ModelBank,
    ) -> list[Task]:
        """Take the trained model over."""
        layout = self.layout(held[0])
        for student, vector in zip(held, received.vectors(), strict=True):
            take(student, layout, vector, keep_moments=True)
        return []

    def _teacher(self, student: Student, tools: Tools) -> int:
        """Return the client that learns for the student's architecture: the first that has it."""
        everyone = range(tools.inputs.data.num_clients)
        return next(i for i in everyone if tools.models.name(i) == student.architecture)

    def _others(self, student: Student, tools: Tools) -> tuple[Tensor, Tensor] | None:
        """Return the private samples of all clients but one, each as its owner sees them."""
        others = [c for c in tools.inputs.data.clients if c.client_id != student.client_id]
        if not others:
            return None
        rows = tools.inputs.private(others)
        return torch.cat([inputs for inputs, _ in rows]), torch.cat([labels for _, labels in rows])
