"""Predictions on the public set: what clients exchange unless a method says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from clients.exchange.kept_teacher import KeptTeacher
from clients.exchange.lesson_facts import gather
from clients.exchange.own_loss import with_own_losses
from clients.exchange.protocol import Exchange, Task, Tools
from clients.uptake import UptakeStage
from fedfuse.errors import require
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.protocols import ModelPlan
from fedfuse.sharing_context import SharingContext
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData, KnowledgeBank, Teachers


@dataclass(frozen=True, slots=True)
class Predictions(Exchange):
    """Predict the round's public samples, then distil the teacher that comes back.

    Args:
        kept_teacher: How local training goes on learning from it; None for not at all.
    """

    kept_teacher: KeptTeacher | None = None

    def __post_init__(self) -> None:
        kept, allowed = self.kept_teacher, "a KeptTeacher, or null"
        ok = kept is None or isinstance(kept, KeptTeacher)
        require(ok, "Predictions", "kept_teacher", kept, allowed)

    @property
    def extra(self) -> str:
        """What a step costs beyond a step of local training, in words."""
        return "" if self.kept_teacher is None else "a step of the local epochs also distils"

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:  # noqa: ARG002
        """Return predictions and teachers; any models can exchange them."""
        return PREDICTIONS

    def combine(self, models: ModelPlan, data: FederatedData) -> None:
        """Leave it to the slots: predictions are fused by a pipeline of parts."""

    def train(
        self,
        held: Sequence[Student],
        tools: Tools,
        round_: int,
        *,
        exchanging: bool,  # noqa: ARG002
    ) -> list[Task]:
        """Return the local epochs, with the kept teacher beside them if there is one."""
        client_ids = [student.client_id for student in held]
        works = tools.work_plan.local(client_ids, round_)
        if self.kept_teacher is not None:
            works = self.kept_teacher.beside(client_ids, works, tools, round_)
        return list(zip(held, works, strict=True))

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> KnowledgeBank:
        """Return the predictions on the round's public samples, after the stages of sharing."""
        client_ids = [student.client_id for student in held]
        logits, beside = self.answers(held, tools, round_)
        counts = tools.inputs.class_counts(client_ids)
        sizes = counts.sum(dim=1)
        distribution = None
        if tools.plan.share_class_distribution:
            distribution = counts.float() / sizes.float().unsqueeze(1)
        bank = KnowledgeBank(torch.tensor(client_ids), logits, sizes, distribution, **beside)
        if tools.familiarity_stage is not None:
            bank = tools.familiarity_stage(bank, held, round_)
        return tools.sharing(bank, _context(client_ids, tools, round_))

    def answers(
        self, held: Sequence[Student], tools: Tools, round_: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits [k, m, C] on the round's public samples, and fields that go with them."""
        public, batch_size = tools.inputs.public(round_), tools.plan.eval_batch_size
        return tools.trainer.predict(held, public, batch_size).cpu(), {}

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: Teachers
    ) -> list[Task]:
        """Return the steps of distillation, towards what the clients make of what arrived."""
        client_ids = [student.client_id for student in held]
        tools.sharing.note(received, {i: tools.memory(i) for i in client_ids})
        public, batch_size = tools.inputs.public(round_), tools.plan.eval_batch_size
        came = received

        @cache
        def own() -> Tensor:
            return tools.trainer.predict(held, public, batch_size)

        if tools.uptake is not None:
            asks = tools.inputs, tools.trainer, batch_size, tools.sharing.plain
            stage = UptakeStage(tools.uptake, *asks)
            received, found = stage(received, held, _context(client_ids, tools, round_), own)
            tools.found.update(found)
        if self.kept_teacher is not None:
            self.kept_teacher.keep(client_ids, tools, round_, came)
        facts = gather(tools, client_ids, round_, received, own)
        works = tools.work_plan.distillation(client_ids, round_, received, facts)
        return with_own_losses(tools, list(zip(held, works, strict=True)), round_)


def _context(client_ids: Sequence[int], tools: Tools, round_: int) -> SharingContext:
    memory = {i: tools.memory(i) for i in client_ids}
    counts, index = tools.inputs.class_counts(client_ids), tools.inputs.rounds.index(round_)
    return SharingContext(tools.arm, round_, index, counts, memory, tools.streams)
