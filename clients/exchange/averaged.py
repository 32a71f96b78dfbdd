"""FedAvg, FedProx, FedNTD and FedAvg with fine-tuning: models go up, their average comes back.

All steps that other methods spend on distillation are taken on private data before the models are
sent, less those of fine-tuning, so that every arm takes as many (as many samples with
``budget=samples``). Who rests gets the average and takes none; who is taught late, because its
upload was, takes them then, from the average on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from clients.exchange.models import (
    BesideItsPast,
    SharesModels,
    Twins,
    as_personal,
    as_shared,
    become,
    layouts,
    near,
    take,
)
from clients.exchange.protocol import Task, Tools
from clients.training.settings import BUDGETS
from fedfuse.distill.labels import require_classes
from fedfuse.distill.not_true import NotTrue
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work
from fedfuse.types import FederatedData, Phase
from fedfuse.validation import require_count, require_flag, require_number, require_one_of


@dataclass(frozen=True, slots=True)
class Averaged(SharesModels):
    """Exchange models and average them (McMahan et al. 2017, arXiv 1602.05629).

    Args:
        budget: ``optimiser_steps`` takes distillation's steps too, on private data; ``rounds``
            the local epochs only.
        mu: FedProx's pull towards the model with which a round's training starts (Li et al. 2020,
            arXiv 1812.06127); 0 is FedAvg.
        ntd_weight: FedNTD's beta, of not-true distillation of that same model, which is asked anew
            in every step (Lee et al. 2022, arXiv 2106.03097); 0 is FedAvg.
        ntd_temperature: Of both softmaxes of it.
        fine_tune_epochs: Passes over the private data after the average came back, by a copy that
            is tested and then forgotten.
        weigh_by: ``samples`` weighs a model by its client's private samples, ``equal`` does not.
        mixed: ``refuse`` more than one architecture, or ``group``: average within each.
        buffers: ``average`` them too, or leave each client its ``own`` (batch norm statistics).
        keep_moments: Whether the optimiser's moments outlive the model being replaced.
        public: What the public set is to local training: ``none``, more samples with their
            ``labels``, or more samples with ``pseudo_labels`` that the last average gives them.
    """

    budget: str = "optimiser_steps"
    mu: float = 0.0
    ntd_weight: float = 0.0
    ntd_temperature: float = 1.0
    fine_tune_epochs: int = 0
    weigh_by: str = "samples"
    mixed: str = "refuse"
    buffers: str = "average"
    keep_moments: bool = False
    public: str = "none"
    last_suffices: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, options in (
            ("budget", BUDGETS),
            ("weigh_by", ("samples", "equal")),
            ("mixed", ("refuse", "group")),
            ("buffers", ("average", "own")),
            ("public", ("none", "labels", "pseudo_labels")),
        ):
            require_one_of("Averaged", name, getattr(self, name), options)
        require_number("Averaged", "mu", self.mu, at_least=0)
        require_number("Averaged", "ntd_weight", self.ntd_weight, at_least=0)
        require_number("Averaged", "ntd_temperature", self.ntd_temperature, above=0)
        require_count("Averaged", "fine_tune_epochs", self.fine_tune_epochs, at_least=0)
        require_flag("Averaged", "keep_moments", self.keep_moments)

    @property
    def needs_labels(self) -> bool:
        """Whether the public set's labels are learned from."""
        return self.public == "labels"

    @property
    def extra(self) -> str:
        """What a step costs beside those of other methods."""
        return "a step also asks the model that it began with" if self.ntd_weight else ""

    def average(self, models: ModelPlan, data: FederatedData) -> AverageModels:
        """Return how the models of each architecture are averaged."""
        if self.ntd_weight:
            why, instead = "compares the classes beside the label", "Set exchange.ntd_weight=0."
            require_classes("FedNTD", why, data.num_classes, 3, instead)
        names, laid_out = layouts(models, data, mixed=self.mixed, buffers=self.buffers)
        return AverageModels(names, laid_out, by_samples=self.weigh_by == "samples")

    def hold(self, client_id: int, model: nn.Module, tools: Tools) -> nn.Module:  # noqa: ARG002
        """Return the model, and its copy if there is to be fine-tuning."""
        return Twins(model) if self.fine_tune_epochs else model

    def train(
        self, held: Sequence[Student], tools: Tools, round_: int, *, exchanging: bool
    ) -> list[Task]:
        """Return the steps before the average."""
        work_plan = tools.work_plan
        client_ids = [student.client_id for student in held]
        costs = work_plan.passes(client_ids)
        if exchanging:
            ahead = tools.ahead(client_ids, round_, self.budget)
            kept = self._tuning(client_ids, tools, round_)
            costs = [n + s - (t if s else 0) for n, s, t in zip(costs, ahead, kept, strict=True)]
        students = [as_shared(s) if exchanging else self._own(s, tools) for s in held]
        more = [self._public(student, tools, round_) for student in students]
        works = work_plan.private(client_ids, "train", round_, costs, more)
        tasks = list(zip(students, works, strict=True))
        return [self._held_near(*task) for task in tasks] if exchanging else tasks

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: ModelBank
    ) -> list[Task]:
        """Take the average over; return the steps of fine-tuning, and those that came due late."""
        layout = self.layout(held[0])
        for student, vector in zip(held, received.vectors(), strict=True):
            take(student, layout, vector, keep_moments=self.keep_moments)
            tools.memory(student.client_id)["exchange/averaged"] = torch.tensor(True)
        held = [student for student in held if tools.taught(student.client_id)]
        client_ids = [student.client_id for student in held]
        late, tuning = (
            tools.due(client_ids, round_, self.budget),
            self._tuning(client_ids, tools, round_),
        )
        costs = [due or kept for due, kept in zip(late, tuning, strict=True)]
        if not any(costs):
            return []
        if self.fine_tune_epochs:
            for student in held:
                copy = as_personal(student).model
                become(copy, as_shared(student).model)
                student.forget(copy.parameters())
                tools.memory(student.client_id)["exchange/tuned"] = torch.tensor(True)
        works = tools.work_plan.private(client_ids, "distill", round_, costs)
        return list(zip(map(as_personal, held), works, strict=True))

    def evaluation_models(
        self, held: Sequence[Student], tools: Tools, phase: Phase
    ) -> list[Student]:
        """Return the models before the average, and after it (fine-tuned, if they are)."""
        return [as_shared(s) if phase is Phase.LOCAL else self._own(s, tools) for s in held]

    def _own(self, student: Student, tools: Tools) -> Student:
        """Return the client's fine-tuned copy, once it has one, and its part of the average."""
        tuned = "exchange/tuned" in tools.memory(student.client_id)
        return as_personal(student) if tuned else as_shared(student)

    def _held_near(self, student: Student, work: Work) -> Task:
        """Return steps that are held near the model that they begin with."""
        pull = near(student.model, self.mu) if self.mu > 0 else None
        if self.ntd_weight == 0:
            return student, replace(work, penalty=pull)
        loss = NotTrue(self.ntd_weight, self.ntd_temperature, work.loss)
        of_both = None if pull is None else lambda both: pull(both.model)
        both = replace(student, model=BesideItsPast(student.model))
        return both, replace(work, loss=loss, penalty=of_both)

    def _tuning(self, client_ids: Sequence[int], tools: Tools, round_: int) -> list[int]:
        """Return what fine-tuning costs: of the round's costs, one is left for the average.

        With ``budget=rounds`` it comes on top of them.
        """
        tuning = tools.work_plan.passes(client_ids, self.fine_tune_epochs)
        if self.budget == "rounds":
            return tuning
        local, spare = tools.work_plan.passes(client_ids), tools.work_plan.spare(client_ids, round_)
        return [min(t, n + s - 1) for t, n, s in zip(tuning, local, spare, strict=True)]

    def _public(self, student: Student, tools: Tools, round_: int) -> tuple[Tensor, Tensor] | None:
        """Return the public samples that are more training data to a client, with labels."""
        if self.public == "none":
            return None
        inputs = tools.inputs.public(round_)
        if self.public == "labels":
            labels = tools.inputs.rounds.labels(round_)
            assert labels is not None
            return inputs, labels.to(inputs.device)
        if "exchange/averaged" not in tools.memory(student.client_id):
            return None  # nobody has taught it anything yet
        logits = tools.trainer.predict([student], inputs, tools.plan.eval_batch_size)[0]
        return inputs, logits.argmax(dim=1).to(inputs.device)
