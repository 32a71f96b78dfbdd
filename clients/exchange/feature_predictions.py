"""Predictions, and features or prototypes beside them: what exchanges of more than logits share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from clients.exchange.class_means import class_means
from clients.exchange.predictions import Predictions
from clients.exchange.protocol import Task, Tools
from fedfuse.exchange.beside import FEATURES, PROTOTYPES, Beside, MeanBeside
from fedfuse.exchange.kind import Kind
from fedfuse.models.features import WithFeatures, feature_size
from fedfuse.models.plan import one_of_each
from fedfuse.models.projection import projection
from fedfuse.protocols import ModelPlan
from fedfuse.train.sides import FeatureTerm, on_sides
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData, KnowledgeBank, Teachers
from fedfuse.validation import require_count

CAME, PRESENT = "exchange/prototypes", "exchange/present"
"""Where a client remembers the prototypes that came last, [C, D], and which of them there are."""


@dataclass(frozen=True, slots=True)
class FeaturePredictions(Predictions):
    """Exchange predictions and, with them, features of the public samples or prototypes of classes.

    Features are what goes into a model's last linear layer. All travel with one width D: a model
    with d other features sends them through a fixed random orthogonal map d -> D, drawn by the
    name of its architecture. Who inherits this says in ``up`` and ``down`` what travels, and in
    :meth:`lesson` (and :meth:`train`) what a client learns of it; as it is nobody learns of it.

    Args:
        width: D; None for the features of the smallest model.
    """

    width: int | None = None
    up: ClassVar[frozenset[str]] = PROTOTYPES
    down: ClassVar[frozenset[str]] = PROTOTYPES

    def __post_init__(self) -> None:
        Predictions.__post_init__(self)
        if self.width is not None:
            require_count(type(self).__name__, "width", self.width, at_least=1)

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return predictions, teachers and what goes with both.

        Raises:
            ModelError: As :meth:`size`.
        """
        sizes = {"D": self.size(models, data)}
        self.check_shown(models, data)
        return Kind(KnowledgeBank, Teachers, sizes, up=self.up | self.also_up, down=self.down)

    def size(self, models: ModelPlan, data: FederatedData) -> int:
        """Return how many numbers travel per sample or class.

        Raises:
            ModelError: If there is a model whose features cannot be told.
        """
        sizes = [feature_size(m, data.num_classes) for m in one_of_each(models, data).values()]
        return min(sizes) if self.width is None else self.width

    def beside(self) -> Beside:
        """Return the server's half of what goes with predictions: the mean over the clients."""
        return MeanBeside(self.down)

    def answers(
        self, held: Sequence[Student], tools: Tools, round_: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits [k, m, C] on the round's public samples, and fields that go with them."""
        fields: dict[str, Tensor] = {}
        if self.up & FEATURES:
            public, num_classes = tools.inputs.public(round_), tools.inputs.data.num_classes
            asked = [self.showing(student, tools) for student in held]
            sides = tools.trainer.predict(asked, public, tools.plan.eval_batch_size).cpu()
            logits = sides[..., :num_classes].contiguous()
            end = num_classes + tools.width
            fields["features"] = sides[..., num_classes:end].contiguous()
        else:
            logits, _ = Predictions.answers(self, held, tools, round_)
        if self.up & PROTOTYPES:
            fields["prototypes"], fields["present"] = self.prototypes(held, tools)
        return logits, fields

    def showing(self, student: Student, tools: Tools) -> Student:
        """Return a client whose model returns what travels of a sample, D numbers, after C logits.

        More may follow.
        """
        return showing(student, tools)

    def prototypes(self, held: Sequence[Student], tools: Tools) -> tuple[Tensor, Tensor]:
        """Return the mean features [k, C, D] of the clients' private samples, and who has any."""
        means, counts = class_means([showing(student, tools) for student in held], tools)
        return means, counts > 0

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: Teachers
    ) -> list[Task]:
        """Remember the prototypes that came; return the steps of the lesson."""
        if received.prototypes is not None and received.present is not None:
            came = zip(held, received.prototypes, received.present, strict=True)
            for student, values, present in came:
                memory = tools.memory(student.client_id)
                memory[CAME], memory[PRESENT] = values.clone(), present.clone()
        tasks = Predictions.learn(self, held, tools, round_, received)
        return self.lesson(tasks, tools, round_, received)

    def lesson(
        self,
        tasks: list[Task],
        tools: Tools,  # noqa: ARG002
        round_: int,  # noqa: ARG002
        received: Teachers,  # noqa: ARG002
    ) -> list[Task]:
        """Return the steps of distillation with what the features add to them."""
        return tasks

    def with_term(
        self, tasks: list[Task], tools: Tools, term: FeatureTerm, told: Iterable[Tensor]
    ) -> list[Task]:
        """Return the steps with a term on what travels of their samples, told this of each."""
        num_classes = tools.inputs.data.num_classes
        return [
            (
                self.showing(student, tools),
                on_sides(work, num_classes, term, rows.to(work.inputs.device)),
            )
            for (student, work), rows in zip(tasks, told, strict=True)
        ]


def showing(student: Student, tools: Tools) -> Student:
    """Return a client whose model returns its features, D wide, beside its logits: [B, C + D]."""
    num_classes, width = tools.inputs.data.num_classes, tools.width
    size, fixed = feature_size(student.model, num_classes), None
    if size != width:
        entropy = tools.streams.entropy("exchange", "projection", student.architecture)
        fixed = projection(size, width, entropy, tools.inputs.device)
    return replace(student, model=WithFeatures(student.model, num_classes, fixed))


def features_of(held: Sequence[Student], tools: Tools, round_: int) -> Tensor:
    """Return the clients' features of the round's public samples, [k, m, D]."""
    asked = [showing(student, tools) for student in held]
    public, batch_size = tools.inputs.public(round_), tools.plan.eval_batch_size
    sides = tools.trainer.predict(asked, public, batch_size).cpu()
    return sides[..., tools.inputs.data.num_classes :].clone()
