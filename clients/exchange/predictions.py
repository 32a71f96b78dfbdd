"""Predictions on the public set: what clients exchange unless a method says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from clients.exchange.kept_teacher import KeptTeacher
from clients.exchange.lesson_facts import gather
from clients.exchange.own_loss import with_own_losses
from clients.exchange.protocol import Exchange, Task, Tools
from clients.uptake import UptakeStage
from fedfuse.declarations import declared
from fedfuse.errors import require
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.models.features import feature_size
from fedfuse.models.plan import one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.sharing_context import SharingContext
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData, KnowledgeBank, Teachers


@dataclass(frozen=True, slots=True)
class Predictions(Exchange):
    """Predict the round's public samples, then distil the teacher that comes back.

    Args:
        kept_teacher: How local training goes on learning from it; None for not at all.
        shown: Model to the model that others are shown the predictions of, as
            :class:`fedfuse.exchange.aligned_rows.AlignedRows`; nothing else is asked of it. None
            shows the model itself. A part with ``estimate = True`` also has ``told(logits, mask)``,
            what goes with it as :attr:`~fedfuse.types.KnowledgeBank.estimate`.
    """

    kept_teacher: KeptTeacher | None = None
    shown: Callable[[nn.Module], nn.Module] | None = None

    def __post_init__(self) -> None:
        kept, allowed = self.kept_teacher, "a KeptTeacher, or null"
        ok = kept is None or isinstance(kept, KeptTeacher)
        require(ok, "Predictions", "kept_teacher", kept, allowed)
        ok = self.shown is None or callable(self.shown)
        require(ok, "Predictions", "shown", self.shown, "a function of a model, or null")

    @property
    def extra(self) -> str:
        """What a step costs beyond a step of local training, in words."""
        return "" if self.kept_teacher is None else "a step of the local epochs also distils"

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return predictions and teachers; any models can exchange them.

        Raises:
            ModelError: If what is to be shown cannot be made of one of the models.
        """
        if self.shown is None:
            return PREDICTIONS
        self.check_shown(models, data)
        return Kind(KnowledgeBank, Teachers, up=self.also_up)

    @property
    def also_up(self) -> frozenset[str]:
        """Fields of the upload that go with what is shown."""
        tells = declared(self.shown, "estimate", False)
        return frozenset({"estimate"} if tells else ())

    def check_shown(self, models: ModelPlan, data: FederatedData) -> None:
        """Show one model of each architecture."""
        if self.shown is None:
            return
        for model in one_of_each(models, data).values():
            if declared(self.shown, "needs_linear_head", False):
                feature_size(model, data.num_classes)
            self.shown(model)

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
        asked, shown = held, self.shown
        if shown is not None:
            asked = [_in_place_of(student, shown(student.model)) for student in held]
        logits, beside = self.answers(asked, tools, round_)
        counts = tools.inputs.class_counts(client_ids)
        sizes = counts.sum(dim=1)
        distribution = None
        if tools.plan.share_class_distribution:
            distribution = counts.float() / sizes.float().unsqueeze(1)
        bank = KnowledgeBank(torch.tensor(client_ids), logits, sizes, distribution, **beside)
        if tools.familiarity_stage is not None:
            bank = tools.familiarity_stage(bank, held, round_)
        if self.also_up:
            own, _ = Predictions.answers(self, held, tools, round_)
            bank = replace(bank, estimate=shown.told(own, bank.mask))  # type: ignore[union-attr]
        context = _context(client_ids, tools, round_)
        if tools.own_choice is not None:
            bank = tools.own_choice(bank, context)
        return tools.sharing(bank, context)

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
        context = _context(client_ids, tools, round_)
        tools.sharing.note(received, context.memory)
        if tools.own_choice is not None:
            tools.own_choice.note(received, context)
        public, batch_size = tools.inputs.public(round_), tools.plan.eval_batch_size
        came = received

        @cache
        def own() -> Tensor:
            return tools.trainer.predict(held, public, batch_size)

        if tools.uptake is not None:
            asks = tools.inputs, tools.trainer, batch_size, tools.sharing.plain
            stage = UptakeStage(tools.uptake, *asks)
            received, found = stage(received, held, context, own)
            tools.found.update(found)
        if self.kept_teacher is not None:
            self.kept_teacher.keep(client_ids, tools, round_, came)
        facts = gather(tools, client_ids, round_, received, own)
        works = tools.work_plan.distillation(client_ids, round_, received, facts)
        return with_own_losses(tools, list(zip(held, works, strict=True)), round_)


def _in_place_of(student: Student, model: nn.Module) -> Student:
    """Return a student that is asked and never trained; its optimiser says what its model is."""
    nothing = torch.optim.SGD(model.parameters(), lr=0.0)
    return replace(student, model=model, optimizer=nothing)


def _context(client_ids: Sequence[int], tools: Tools, round_: int) -> SharingContext:
    memory = {i: tools.memory(i) for i in client_ids}
    counts, index = tools.inputs.class_counts(client_ids), tools.inputs.rounds.index(round_)
    return SharingContext(tools.arm, round_, index, counts, memory, tools.streams)
