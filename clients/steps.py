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
from torch.nn import functional as F

from clients.state import ClientState, ClientStates, OptimizerFactory
from fedfuse.data.tensors import gather, to_inputs
from fedfuse.distill.targets import as_targets
from fedfuse.errors import FedfuseError, require
from fedfuse.messages import Failure
from fedfuse.metrics import accuracy, client_metrics, cross_entropy
from fedfuse.models.plan import build_checked
from fedfuse.protocols import DistillLoss, ModelPlan
from fedfuse.rng import Streams
from fedfuse.train.trainer import LoopTrainer, Student, Trainer
from fedfuse.train.work import Work, schedule, steps_per_epoch
from fedfuse.types import ClientData, ClientMetrics, FederatedData, KnowledgeBank, Teachers


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """How every client trains.

    Args:
        batch_size: Private samples per step.
        local_epochs: Passes over the private data per round.
        distill_epochs: Passes over the public set per round.
        distill_batch_size: Public samples per step.
        private_weight: Weight of the private cross-entropy mixed into distillation; 0 for none.
        init: ``shared`` gives clients of one architecture the same initial weights,
            ``per_client`` draws them for each.
        optimizer_state: ``keep`` carries the optimiser's moments from phase to phase and round
            to round; ``reset`` starts them afresh at every phase.
        threads: torch threads per client; reductions depend on it, so it is the same everywhere.
        share_class_distribution: Whether the label histogram may leave the client.
        eval_batch_size: Samples per forward pass when predicting and evaluating.
    """

    batch_size: int = 32
    local_epochs: int = 1
    distill_epochs: int = 1
    distill_batch_size: int = 64
    private_weight: float = 0.0
    init: str = "shared"
    optimizer_state: str = "keep"
    threads: int = 1
    share_class_distribution: bool = False
    eval_batch_size: int = 500

    def __post_init__(self) -> None:
        for name in ("batch_size", "distill_batch_size", "threads", "eval_batch_size"):
            value = getattr(self, name)
            require(value >= 1, "client", name, value, "an integer of at least 1")
        for name in ("local_epochs", "distill_epochs", "private_weight"):
            value = getattr(self, name)
            require(value >= 0, "client", name, value, "a number of at least 0")
        require(
            self.init in ("shared", "per_client"), "client", "init", self.init, "shared, per_client"
        )
        require(
            self.optimizer_state in ("keep", "reset"),
            "client",
            "optimizer_state",
            self.optimizer_state,
            "keep, reset",
        )


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
        trainer: Who takes the steps.
        on_client_done: Called with the id of each client that has finished a phase.
    """

    client_ids: tuple[int, ...]
    data: FederatedData
    models: ModelPlan
    make_optimizer: OptimizerFactory
    loss: DistillLoss | None
    plan: ClientPlan
    streams: Streams
    trainer: Trainer = field(default_factory=LoopTrainer)
    on_client_done: Callable[[int], None] = lambda _: None
    states: ClientStates = field(default_factory=ClientStates)
    _public: Tensor | None = None
    _test: Tensor | None = None

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
        shared: list[Tensor] = []
        table: list[dict[str, float]] = []
        done: list[int] = []
        failures: list[Failure] = []
        for cohort in self._cohorts(client_ids):
            with self._phase(cohort, round_, "train", failures):
                students = [self._student(arm, client_id) for client_id in cohort]
                steps = [self._private_steps(client_id) for client_id in cohort]
                works = [
                    self._private_work(client_id, "train", round_, num_steps)
                    for client_id, num_steps in zip(cohort, steps, strict=True)
                ]
                self._fit(students, works, round_)
                logits = self._predict(students, self._public_inputs()) if share else None
                metrics = self._evaluate(students) if evaluate else []
                # Nothing may fail from here on: a client is done, or it is not.
                if logits is not None:
                    shared.append(logits)
                table += metrics
                done += cohort
        bank = self._bank(done, torch.cat(shared)) if shared else None
        return bank, _metrics(done, table) if evaluate and done else None, failures

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
        table: list[dict[str, float]] = []
        done: list[int] = []
        failures: list[Failure] = []
        rows = {client_id: row for row, client_id in enumerate(client_ids)}
        for cohort in self._cohorts(client_ids):
            with self._phase(cohort, round_, "distill", failures):
                students = [self._student(arm, client_id) for client_id in cohort]
                if teachers is None:
                    steps = self._distill_steps()
                    works = [self._private_work(i, "distill", round_, steps) for i in cohort]
                else:
                    mine = teachers.rows(torch.tensor([rows[i] for i in cohort]))
                    works = self._distill_works(cohort, round_, mine)
                self._fit(students, works, round_)
                metrics = self._evaluate(students) if evaluate else []
                table += metrics
                done += cohort
        return _metrics(done, table) if evaluate and done else None, failures

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
        with torch.random.fork_rng(devices=[]):
            # For layers that draw from torch's global generator, such as dropout. Not
            # torch.manual_seed: it would reseed the GPUs too, which are not forked here.
            entropy = self.streams.entropy("client", cohort[0], phase, round_, "layers")
            torch.default_generator.manual_seed(entropy)
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
            return ClientState(model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]

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

    def _private_work(self, client_id: int, phase: str, round_: int, num_steps: int) -> Work:
        """Return ``num_steps`` steps on the client's private data."""
        client = self.data.clients[client_id]
        inputs, labels = self._rows(client, client.train)
        generator = self.streams.torch("client", client_id, phase, round_)
        return Work(
            inputs=inputs,
            targets=labels,
            loss=_cross_entropy,
            schedule=schedule(len(labels), self.plan.batch_size, num_steps, generator),
        )

    def _distill_works(self, cohort: Sequence[int], round_: int, teachers: Teachers) -> list[Work]:
        """Return the steps of each client towards its own teacher (one row of ``teachers``)."""
        if self.loss is None:
            raise FedfuseError(
                "A teacher arrived, but this node has no distillation loss",
                next_step="Run server and clients with the same configuration.",
            )
        steps, private_weight = self._distill_steps(), self.plan.private_weight
        targets, weights = as_targets(teachers, self.loss), teachers.sample_weight
        works = []
        for row, client_id in enumerate(cohort):
            anchor = None
            if private_weight > 0:
                anchor = self._private_work(client_id, "distill", round_, steps)
            generator = self.streams.torch("client", client_id, "public", round_)
            works.append(
                Work(
                    inputs=self._public_inputs(),
                    targets=targets[row],
                    loss=self.loss,
                    schedule=schedule(
                        len(self.data.public), self.plan.distill_batch_size, steps, generator
                    ),
                    sample_weight=None if weights is None else weights[row],
                    anchor=anchor,
                    anchor_weight=private_weight,
                )
            )
        return works

    def _private_steps(self, client_id: int) -> int:
        """Return the steps of local training in one round."""
        num_samples = len(self.data.clients[client_id].train)
        return self.plan.local_epochs * steps_per_epoch(num_samples, self.plan.batch_size)

    def _distill_steps(self) -> int:
        """Return the steps of distillation in one round."""
        per_epoch = steps_per_epoch(len(self.data.public), self.plan.distill_batch_size)
        return self.plan.distill_epochs * per_epoch

    # -- predicting and evaluating -------------------------------------------------------------

    def _predict(self, students: Sequence[Student], inputs: Tensor) -> Tensor:
        """Return logits [k, N, C] on inputs that all students share."""
        return self.trainer.predict(students, inputs, self.plan.eval_batch_size)

    def _evaluate(self, students: Sequence[Student]) -> list[dict[str, float]]:
        """Return each client's metrics: its own distribution, the balanced one, its validation."""
        pool = self._predict(students, self._test_inputs())
        labels = torch.from_numpy(np.array(self.data.test.labels))
        return [
            self._metrics_of(student, logits, labels)
            for student, logits in zip(students, pool, strict=True)
        ]

    def _metrics_of(self, student: Student, pool: Tensor, labels: Tensor) -> dict[str, float]:
        data, client = self.data, self.data.clients[student.client_id]
        own: tuple[Tensor, Tensor] | None = None
        if client.transform is not None:
            inputs, own_labels = gather(
                data.test, client.test, data.mean, data.std, client.transform
            )
            own = (self._predict([student], inputs)[0], own_labels)
        metrics = client_metrics(pool, labels, client.test, own=own)
        if len(client.val):
            inputs, val_labels = self._rows(client, client.val)
            logits = self._predict([student], inputs)[0]
            metrics["accuracy_val"] = accuracy(logits, val_labels)
            metrics["loss_val"] = cross_entropy(logits, val_labels)
        return metrics

    def _bank(self, client_ids: list[int], logits: Tensor) -> KnowledgeBank:
        sizes = [len(self.data.clients[i].train) for i in client_ids]
        distribution = None
        if self.plan.share_class_distribution:
            counts = [
                np.bincount(
                    self.data.train.labels[self.data.clients[i].train],
                    minlength=self.data.num_classes,
                )
                for i in client_ids
            ]
            totals = np.stack(counts).astype(np.float32)
            distribution = torch.from_numpy(totals / totals.sum(axis=1, keepdims=True))
        return KnowledgeBank(
            client_ids=torch.tensor(client_ids),
            logits=logits,
            num_examples=torch.tensor(sizes),
            class_distribution=distribution,
        )

    # -- inputs --------------------------------------------------------------------------------

    def _rows(self, client: ClientData, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of private rows; held only while they are being used."""
        return gather(self.data.train, index, self.data.mean, self.data.std, client.transform)

    def _public_inputs(self) -> Tensor:
        """Return the public inputs, prepared once per process."""
        if self._public is None:
            self._public = to_inputs(self.data.public.inputs, self.data.mean, self.data.std)
        return self._public

    def _test_inputs(self) -> Tensor:
        """Return the test pool's inputs, prepared once per process and shared by its clients."""
        if self._test is None:
            self._test = to_inputs(self.data.test.inputs, self.data.mean, self.data.std)
        return self._test


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _metrics(client_ids: list[int], table: list[dict[str, float]]) -> ClientMetrics:
    """Stack metric dictionaries; a metric that a client lacks (no validation data) is NaN."""
    names = tuple(sorted({name for row in table for name in row}))
    values = [[row.get(name, float("nan")) for name in names] for row in table]
    return ClientMetrics(
        client_ids=torch.tensor(client_ids),
        names=names,
        values=torch.tensor(values, dtype=torch.float64),
    )
