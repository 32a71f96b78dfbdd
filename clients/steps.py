"""What a client does in a round: learn alone, share predictions, learn from its teacher.

No Flower here: ``clients.app`` turns messages into calls of :class:`Node` and back.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from clients.evaluation import Evaluation, as_table
from clients.phases import Phases, rows_of
from clients.plan import ClientPlan
from clients.samples import ModelInputs
from clients.sharing import Sharing
from clients.state import ClientState, ClientStates, OptimizerFactory
from fedfuse.errors import FedfuseError
from fedfuse.messages import Failure
from fedfuse.models.plan import build_checked
from fedfuse.occasion import Occasion
from fedfuse.protocols import DistillLoss, ModelPlan
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds, Select
from fedfuse.train.trainer import LoopTrainer, Student, Trainer
from fedfuse.train.work import Work
from fedfuse.types import ClientMetrics, FederatedData, KnowledgeBank, Teachers

__all__ = ["ClientPlan", "Node"]


@dataclass(slots=True)
class Node:
    """The clients that one process hosts.

    Args:
        client_ids: Which clients these are.
        data: The data of the federation; only the hosted clients' rows are ever read.
        models: Which client runs which architecture.
        make_optimizer: Parameters to optimiser.
        loss: What distillation minimises; None for a method without teachers.
        plan: How clients train.
        streams: The run's random streams.
        select: Which public samples each round is about.
        sharing: What happens to predictions before they leave.
        trainer: Who takes the steps.
        device: Where models and their inputs live.
        on_client_done: Called with the id of each client that has finished a phase.
    """

    client_ids: tuple[int, ...]
    data: FederatedData
    models: ModelPlan
    make_optimizer: OptimizerFactory
    loss: DistillLoss | None
    plan: ClientPlan
    streams: Streams
    select: Select = field(default_factory=All)
    sharing: Sharing = field(default_factory=Sharing)
    trainer: Trainer = field(default_factory=LoopTrainer)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    on_client_done: Callable[[int], None] = lambda _: None
    states: ClientStates = field(default_factory=ClientStates)
    inputs: ModelInputs = field(init=False)
    phases: Phases = field(init=False)
    evaluate: Evaluation = field(init=False)

    def __post_init__(self) -> None:
        rounds = PublicRounds(self.select, self.data.public, self.streams)
        self.inputs = ModelInputs(self.data, rounds, self.device)
        self.phases = Phases(self.inputs, self.plan, self.loss, self.streams)
        self.evaluate = Evaluation(self.inputs, self.trainer, self.plan.eval_batch_size)

    def train(
        self, arm: str, round_: int, client_ids: Sequence[int], *, share: bool, evaluate: bool
    ) -> tuple[KnowledgeBank | None, ClientMetrics | None, list[Failure]]:
        """Train each client on its private data, then predict the public set and evaluate.

        Args:
            arm: Name of the federation these clients play in (see :class:`ClientStates`).
            round_: The round, from 1.
            client_ids: Which of the hosted clients take part.
            share: Whether the public predictions are wanted.
            evaluate: Whether metrics are wanted.

        Returns:
            The knowledge and the metrics of the clients that finished, and the failures.
        """
        shared: list[KnowledgeBank] = []
        table: dict[int, dict[str, float]] = {}
        done: list[int] = []
        failures: list[Failure] = []
        for cohort in self._cohorts(client_ids):
            with self._phase(cohort, round_, "train", failures):
                students = [self._student(arm, client_id) for client_id in cohort]
                self._fit(students, self.phases.local(cohort, round_), round_)
                bank = self._share(arm, students, round_) if share else None
                metrics = self.evaluate(students) if evaluate else []
                # Nothing may fail from here on: a client is done, or it is not.
                if bank is not None:
                    shared.append(bank)
                table.update(zip(cohort, metrics, strict=False))
                done += cohort
        done.sort()
        together = KnowledgeBank.stack(shared) if shared else None
        return together, _stack(done, table) if table else None, failures

    def distil(
        self,
        arm: str,
        round_: int,
        client_ids: Sequence[int],
        teachers: Teachers | None,
        *,
        evaluate: bool,
    ) -> tuple[ClientMetrics | None, list[Failure]]:
        """Let each client learn from its teacher, then evaluate.

        Without teachers each client takes the same number of steps on its private data instead,
        so that a method that fuses and one that does not spend the same optimiser steps.
        """
        table: dict[int, dict[str, float]] = {}
        failures: list[Failure] = []
        for cohort in self._cohorts(client_ids):
            with self._phase(cohort, round_, "distill", failures):
                students = [self._student(arm, client_id) for client_id in cohort]
                if teachers is None:
                    works = self.phases.untaught(cohort, round_)
                else:
                    theirs = rows_of(teachers, cohort, client_ids)
                    works = self.phases.distillation(cohort, round_, theirs)
                self._fit(students, works, round_)
                metrics = self.evaluate(students) if evaluate else []
                table.update(zip(cohort, metrics, strict=False))
        return _stack(sorted(table), table) if table else None, failures

    # -- one cohort ----------------------------------------------------------------------------

    def _cohorts(self, client_ids: Sequence[int]) -> list[tuple[int, ...]]:
        return self.trainer.cohorts(client_ids, [self.models.name(i) for i in client_ids])

    @contextmanager
    def _phase(
        self, cohort: Sequence[int], round_: int, phase: str, failures: list[Failure]
    ) -> Iterator[None]:
        """Give a cohort its threads and random numbers; note its failure instead of raising."""
        if torch.get_num_threads() != self.plan.threads:
            torch.set_num_threads(self.plan.threads)
        # The works seed torch's global generators, for layers that draw from them.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            try:
                yield
            except Exception as error:
                failures += [
                    Failure(
                        client_id=client_id,
                        round=round_,
                        phase=phase,
                        error=str(error) or type(error).__name__,
                        traceback=traceback.format_exc(),
                        is_mistake=isinstance(error, FedfuseError),
                    )
                    for client_id in cohort
                ]
        for client_id in cohort:
            self.on_client_done(client_id)

    def _student(self, arm: str, client_id: int) -> Student:
        architecture = self.models.name(client_id)

        def make() -> ClientState:
            owner = client_id if self.plan.init == "per_client" else architecture
            entropy = self.streams.entropy("init", owner)
            model = build_checked(
                self.models, client_id, self.data.input_shape, self.data.num_classes, entropy
            )
            # The layout in which convolutions are fastest on CPU and GPU; the numbers' meaning
            # and the shapes stay the same.
            model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            return ClientState(model)

        state = self.states.get(arm, client_id, make)
        if self.plan.optimizer_state == "reset":
            state.forget_optimizers()
        optimizer = state.optimizer("main", self.make_optimizer)
        return Student(client_id, architecture, state.model, optimizer)

    def _fit(self, students: Sequence[Student], works: Sequence[Work], round_: int) -> None:
        """Take the steps and refuse a loss that is not a number any more."""
        losses = self.trainer.fit(students, works)
        for student, work, loss in zip(students, works, losses, strict=True):
            if work.schedule.num_steps and not np.isfinite(loss):
                raise FedfuseError(
                    f"Training of client {student.client_id} diverged in round {round_}",
                    got=f"loss {loss}",
                    allowed="a finite loss",
                    next_step="Lower optimizer.lr.",
                )

    # -- knowledge -----------------------------------------------------------------------------

    def _share(self, arm: str, students: Sequence[Student], round_: int) -> KnowledgeBank:
        """Return what the students send: their predictions on the round's public samples."""
        client_ids = [student.client_id for student in students]
        public, batch_size = self.inputs.public(round_), self.plan.eval_batch_size
        logits = self.trainer.predict(students, public, batch_size).cpu()
        counts = self._class_counts(client_ids)
        sizes = counts.sum(dim=1)
        distribution = None
        if self.plan.share_class_distribution:
            distribution = counts.float() / sizes.float().unsqueeze(1)
        bank = KnowledgeBank(torch.tensor(client_ids), logits, sizes, distribution)
        memory = {i: self.states.memory(i) for i in client_ids}
        index = self.inputs.rounds.index(round_)
        return self.sharing(bank, Occasion(arm, round_, index, counts, memory, self.streams))

    def _class_counts(self, client_ids: Sequence[int]) -> Tensor:
        """Return the private training samples of each client and class, int64 [k, C]."""
        labels, num_classes = self.data.train.labels, self.data.num_classes
        owned = [labels[self.data.clients[i].train] for i in client_ids]
        return torch.from_numpy(np.stack([np.bincount(y, minlength=num_classes) for y in owned]))


def _stack(client_ids: list[int], table: dict[int, dict[str, float]]) -> ClientMetrics:
    return as_table(client_ids, [table[client_id] for client_id in client_ids])
