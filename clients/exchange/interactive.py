"""Talking: clients say their features in messages of one size, and learn to say what all say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from torch import nn

from clients.exchange.feature_predictions import FeaturePredictions
from clients.exchange.protocol import Task, Tools
from fedfuse.exchange.beside import FEATURES
from fedfuse.exchange.interactive import Conversation
from fedfuse.models.features import feature_size
from fedfuse.models.projection import projection
from fedfuse.models.talking import Aloud, Talking
from fedfuse.train.trainer import Student
from fedfuse.types import Phase, Teachers
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Interactive(FeaturePredictions):
    """Send messages e = E(h) of the features h; learn to decode them, and towards their mean.

    ``weight (||Dec(E(h)) - h||**2 + ||E(h) - mean e||**2)`` is added to the lesson. E and Dec are
    the client's own, linear, learned beside its model and never sent.

    Args:
        width: D, the numbers of a message; None for the features of the smallest model.
        weight: Of both terms; 0 learns of predictions only.
    """

    width: int | None = 64
    weight: float = 0.01
    up: ClassVar[frozenset[str]] = FEATURES
    down: ClassVar[frozenset[str]] = FEATURES
    batchable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        FeaturePredictions.__post_init__(self)
        require_number("Interactive", "weight", self.weight, at_least=0)

    def hold(self, client_id: int, model: nn.Module, tools: Tools) -> nn.Module:
        """Return the client's model with its encoder and decoder."""
        size = feature_size(model, tools.inputs.data.num_classes)
        entropy = tools.streams.entropy("exchange", "projection", tools.models.name(client_id))
        return Talking(model, projection(size, tools.width, entropy, tools.inputs.device))

    def showing(self, student: Student, tools: Tools) -> Student:
        """Return a client whose model says its messages, and what Dec makes of them less h."""
        talking = cast("Talking", student.model)
        return replace(student, model=Aloud(talking, tools.inputs.data.num_classes))

    def lesson(
        self,
        tasks: list[Task],
        tools: Tools,
        round_: int,  # noqa: ARG002
        received: Teachers,
    ) -> list[Task]:
        """Return the steps of distillation with what the messages add to them."""
        if self.weight == 0:
            return tasks
        assert received.features is not None
        return self.with_term(tasks, tools, Conversation(self.weight), received.features)

    def evaluation_models(
        self,
        held: Sequence[Student],
        tools: Tools,  # noqa: ARG002
        phase: Phase,  # noqa: ARG002
    ) -> list[Student]:
        """Return the clients' models alone."""
        return [replace(student, model=cast("Talking", student.model).model) for student in held]
