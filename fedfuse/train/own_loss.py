"""Losses that a client learns for itself while it is taught: what they are given, what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeGuard, runtime_checkable

from torch import Tensor, nn

from fedfuse.declarations import declared
from fedfuse.train.facts import Facts


@dataclass(frozen=True, slots=True)
class LossContext:
    """What a client's own loss is made of at the beginning of a lesson.

    Args:
        memory: What the client remembers, tensors by name; may be changed, and a checkpoint saves
            what is there.
        inputs: float32 [V, ...], its validation inputs, ready for the model.
        labels: int64 [V].
        learning_rate: Of the client's optimiser.
        entropy: Seed of what the loss draws in this lesson.
        report: Metrics by name, which go with the client's tests after the lesson.
    """

    memory: dict[str, Tensor]
    inputs: Tensor
    labels: Tensor
    learning_rate: float
    entropy: int
    report: dict[str, float]


@runtime_checkable
class OwnLoss(Protocol):
    """One client's loss, which may learn before each of the client's steps."""

    wants: ClassVar[frozenset[str]]

    def __call__(self, student_logits: Tensor, targets: Tensor, facts: Facts) -> Tensor:
        """Return one loss per sample, [B]."""
        ...

    def before_step(
        self, step: int, model: nn.Module, inputs: Tensor, targets: Tensor, weight: Tensor | None
    ) -> None:
        """Learn from the batch of a step that is not taken yet; the model stays as it is.

        Args:
            step: Number of the step in this lesson, from 0.
            model: The client's, in training mode.
            inputs: The batch [B, ...].
            targets: Its targets and facts, as :func:`~fedfuse.train.facts.as_trained` takes them.
            weight: How much each sample counts [B]; None for all alike.
        """
        ...


@runtime_checkable
class LearnsByClient(Protocol):
    """A distillation loss that every client learns for itself, one client after the other.

    It declares ``batchable = False``, or else ``of_client`` is not asked, and
    ``needs_validation = True`` where it cannot do without samples that the client holds back.
    """

    def of_client(self, at: LossContext) -> OwnLoss:
        """Return the client's own loss."""
        ...


def learns_by_client(loss: object) -> TypeGuard[LearnsByClient]:
    """Tell whether every client learns the loss for itself."""
    return isinstance(loss, LearnsByClient) and not declared(loss, "batchable", True)
