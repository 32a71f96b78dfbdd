"""What a client is before the first round: initial weights, and what public labels taught it.

Pre-training is a part of where a client begins, not of what it does in a round: it takes the same
steps in both arms of a run, it is taken again from nothing by whoever has lost its state, and a
checkpoint holds nothing of it but its result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from clients.state.state import OptimizerFactory
from clients.training.samples import ModelInputs
from clients.training.settings import ClientPlan
from fedfuse.errors import FedfuseError
from fedfuse.local_loss import cross_entropy
from fedfuse.metrics import accuracy
from fedfuse.models.plan import build_checked
from fedfuse.models.pooling import settled
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.train.divergence import diverged
from fedfuse.train.trainer import Student, Trainer
from fedfuse.train.work import SampleLoss, Work, schedule, steps_per_epoch
from fedfuse.validation import (
    require_count,
    require_flag,
    require_number,
    require_one_of,
)

STEPS = "pretrain/steps"
"""Where a client keeps how many steps its pre-training took."""

Initial = Callable[[int], Mapping[str, Tensor]]
"""Client id to weights and buffers by name."""

Rows = tuple[Tensor, Tensor]
"""Inputs and labels."""

Lesson = Callable[[int, Tensor], tuple[Tensor, SampleLoss]]
"""A client's id and private labels to the targets and the loss by which it learns them."""


def plain_lesson(client_id: int, labels: Tensor) -> tuple[Tensor, SampleLoss]:  # noqa: ARG001
    """Return the labels as they are, and the cross-entropy."""
    return labels, cross_entropy


@dataclass(frozen=True, slots=True)
class Pretraining:
    """Train on the labelled public set before the first round, until that does not help any more.

    FedMD's own protocol: its authors' code trains every model on the labelled public set (at most
    20 epochs, batches of 128, Adam, stopped after 3 epochs without a validation accuracy that is
    better by more than 0.001), then on the client's private data (at most 25 epochs, batches of
    32, stopped after 10), and goes on with the weights of the last epoch. What it is validated on
    is ours: their code takes test data.

    Args:
        epochs: Passes over the public set, at most.
        patience: Passes without a better validation accuracy after which it ends; 0 for never.
        min_delta: How much better it has to be: by more than this.
        keep: ``best`` keeps the weights of the best pass, ``last`` those of the last.
        batch_size: Samples per step.
        val_fraction: Share of the public set that is held back for that, from 0 to below 1.
        private_epochs: Passes over the private data that follow, at most, validated on the
            client's own validation data.
        private_patience: ``patience`` of those; None for the same.
        baseline: Whether the clients of the baseline begin like that too. If not, a gain is that
            of pre-training and method together.
    """

    epochs: int = 20
    patience: int = 3
    batch_size: int = 128
    val_fraction: float = 0.1
    private_epochs: int = 0
    private_patience: int | None = None
    min_delta: float = 0.0
    keep: str = "best"
    baseline: bool = True
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("Pretraining", "epochs", self.epochs)
        require_count("Pretraining", "patience", self.patience, at_least=0)
        require_count("Pretraining", "batch_size", self.batch_size)
        require_number("Pretraining", "val_fraction", self.val_fraction, at_least=0, at_most=0.9)
        require_count("Pretraining", "private_epochs", self.private_epochs, at_least=0)
        if self.private_patience is not None:
            require_count("Pretraining", "private_patience", self.private_patience, at_least=0)
        require_number("Pretraining", "min_delta", self.min_delta, at_least=0, at_most=1)
        require_one_of("Pretraining", "keep", self.keep, ("best", "last"))
        require_flag("Pretraining", "baseline", self.baseline)


@dataclass(slots=True)
class Beginning:
    """Make models as they are before the first round.

    Args:
        models: Which client runs which architecture.
        inputs: The samples.
        plan: How clients train.
        make_optimizer: Parameters to optimiser; one of its own for pre-training.
        trainer: Who takes the steps.
        streams: The run's random streams.
        pretraining: What comes before the first round; None for nothing.
        initial: Client id to the weights that its model begins with; None draws them.
    """

    models: ModelPlan
    inputs: ModelInputs
    plan: ClientPlan
    make_optimizer: OptimizerFactory
    trainer: Trainer
    streams: Streams
    pretraining: Pretraining | None = None
    initial: Initial | None = None
    _known: dict[int | str, tuple[dict[str, Tensor], int]] = field(default_factory=dict)

    def model(self, client_id: int) -> nn.Module:
        """Return the client's model with the weights that were drawn for it, or given."""
        data = self.inputs.data
        entropy = self.streams.entropy("init", self._owner(client_id))
        model = build_checked(self.models, client_id, data.input_shape, data.num_classes, entropy)
        if self.initial is not None:
            model.load_state_dict(self.initial(client_id))
        return settled(model, self.inputs.device)

    def after_public(self, client_id: int) -> tuple[nn.Module, int]:
        """Return the model after the public part of pre-training, and the steps that took.

        Clients that begin with the same weights also end with the same ones, so one of each
        architecture takes the steps and the others copy it.
        """
        model, how = self.model(client_id), self.pretraining
        if how is None:
            return model, 0
        owner = self._owner(client_id)
        if owner in self._known:
            weights, steps = self._known[owner]
            model.load_state_dict(weights)
            return model, steps
        public = self._public_rows(how.val_fraction)
        stream = "pretrain", "public", owner
        steps = self._converge(
            client_id, model, public, (how.epochs, how.patience), how.batch_size, stream
        )
        if self.plan.init == "shared":
            self._known[owner] = _copy(model), steps
        return model, steps

    def pretrained(self, client_id: int, lesson: Lesson = plain_lesson) -> tuple[nn.Module, int]:
        """Return the model as it enters the first round, and the steps that took.

        Args:
            client_id: Whose model it is.
            lesson: How it learns its private labels.
        """
        model, steps = self.after_public(client_id)
        how = self.pretraining
        if how is not None and how.private_epochs:
            own, loss = self._private_rows(client_id, lesson)
            stream = "pretrain", "private", client_id
            size = self.plan.batch_size
            patience = how.patience if how.private_patience is None else how.private_patience
            steps += self._converge(
                client_id, model, own, (how.private_epochs, patience), size, stream, loss
            )
        return model, steps

    def _owner(self, client_id: int) -> int | str:
        """Return whose initial weights these are: the client's, or its architecture's."""
        return client_id if self.plan.init == "per_client" else self.models.name(client_id)

    def _public_rows(self, val_fraction: float) -> tuple[Rows, Rows | None]:
        """Return the public samples to learn from, and those held back."""
        inputs, labels = self.inputs.whole_public(), self.inputs.data.public.labels
        if labels is None:
            raise FedfuseError("Pre-training needs labels of the public set, which has none")
        known = torch.from_numpy(np.array(labels)).to(inputs.device)
        size = round(val_fraction * len(known))
        order = torch.randperm(len(known), generator=self.streams.torch("pretrain", "held out"))
        learned, held = order[size:].sort().values, order[:size].sort().values
        learned, held = learned.to(inputs.device), held.to(inputs.device)
        rows = inputs[learned], known[learned]
        return rows, (inputs[held], known[held]) if size else None

    def _private_rows(
        self, client_id: int, lesson: Lesson
    ) -> tuple[tuple[Rows, Rows | None], SampleLoss]:
        data = self.inputs.data
        client = data.clients[client_id]
        [(inputs, labels)] = self.inputs.private([client])
        held = self.inputs.rows(data.train, client.val, client) if len(client.val) else None
        targets, loss = lesson(client_id, labels)
        return ((inputs, targets), held), loss

    def _converge(
        self,
        client_id: int,
        model: nn.Module,
        rows: tuple[Rows, Rows | None],
        limits: tuple[int, int],
        batch_size: int,
        stream: tuple[int | str, ...],
        loss: SampleLoss = cross_entropy,
    ) -> int:
        """Train until the samples held back say stop; return the steps taken.

        Args:
            client_id: Whose model it is.
            model: The model.
            rows: Samples to learn from, and those held back, if any.
            limits: Passes over the former, at most, and the patience.
            batch_size: Samples per step.
            stream: Name of the random stream that shuffles them.
            loss: What the steps minimise.
        """
        assert self.pretraining is not None
        how, ((inputs, targets), held), (epochs, patience) = self.pretraining, rows, limits
        optimizer = self.make_optimizer(model.parameters())
        student = Student(client_id, self.models.name(client_id), model, optimizer)
        generator = self.streams.torch(*stream)
        per_epoch = steps_per_epoch(len(targets), batch_size)
        best, best_weights, waited, taken = -math.inf, None, 0, 0
        for epoch in range(epochs):
            work = Work(
                inputs=inputs,
                targets=targets,
                loss=loss,
                schedule=schedule(len(targets), batch_size, per_epoch, generator),
                entropy=self.streams.entropy(*stream, epoch),
            )
            if stream[1] == "private":
                work = self.inputs.augmented(work, self.streams, *stream, epoch)
            [found_loss] = self.trainer.fit([student], [work])
            taken += per_epoch
            if not np.isfinite(found_loss):
                what = f"Pre-training of client {client_id} diverged in epoch {epoch + 1}"
                raise diverged(what, found_loss, work, optimizer)
            if held is None or not patience:
                continue
            logits = self.trainer.predict([student], held[0], self.plan.eval_batch_size)[0]
            found = accuracy(logits.cpu(), held[1].cpu())
            if found - how.min_delta > best:
                best, waited = found, 0
                best_weights = _copy(model) if how.keep == "best" else None
            elif (waited := waited + 1) >= patience:
                break
        if best_weights is not None:
            model.load_state_dict(best_weights)
        return taken


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
