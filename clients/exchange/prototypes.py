"""FedProto: mean features per class go up, their mean over the owners comes back.

No public set. Prototypes are taken over the private training samples after training, in eval mode
(taken while the model still moves, they drift). What came back holds the features near in every
step on private data until the next exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from clients.exchange.class_means import (
    class_means,
    common_feature_size,
    knowledge_of,
    with_features,
)
from clients.exchange.protocol import Exchange, Task, Tools
from fedfuse.errors import require
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.kind import Combine, Kind
from fedfuse.exchange.prototypes import MeanPrototypes, prototype_loss, prototype_scores
from fedfuse.exchange.trained_prototypes import Trained
from fedfuse.local_loss import cross_entropy
from fedfuse.models.features import WithFeatures
from fedfuse.protocols import ModelPlan
from fedfuse.train.facts import labels_of
from fedfuse.train.trainer import Student
from fedfuse.train.work import SampleLoss, Work
from fedfuse.types import FederatedData, Phase
from fedfuse.validation import require_flag, require_number, require_one_of


@dataclass(frozen=True, slots=True)
class Prototypes(Exchange):
    """Exchange mean features per class (Tan et al., AAAI 2022, arXiv 2105.00243).

    Args:
        lam: Weight of the squared distance to the prototype, averaged over the features.
        inference: ``prototype`` predicts the class of the nearest prototype, as the authors' code
            does (before the first exchange: by the head); ``head`` by the model's last layer.
        by_count: Weigh owners of a class by their samples of it, which then leave the client;
            the authors' code weighs them equally.
        trained: How the server trains prototypes of its own on those that came (FedTGP, Zhang et
            al., AAAI 2024, arXiv 2401.03230); None for their mean.
    """

    lam: float = 1.0
    inference: str = "prototype"
    by_count: bool = False
    trained: Trained | None = None
    batchable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_number("Prototypes", "lam", self.lam, at_least=0)
        require_one_of("Prototypes", "inference", self.inference, ("prototype", "head"))
        require_flag("Prototypes", "by_count", self.by_count)
        alone = self.trained is None or not self.by_count
        require(alone, "Prototypes", "by_count", self.by_count, "false with trained prototypes")

    @property
    def tests_logits(self) -> bool:
        """Whether the models that are tested answer with logits."""
        return self.inference == "head"

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return class vectors as long as the features of all models.

        Raises:
            ModelError: If the models' features are not of one size.
        """
        return Kind(
            ClassKnowledge, ClassKnowledge, {"D": common_feature_size("Prototypes", models, data)}
        )

    def combine(self, models: ModelPlan, data: FederatedData) -> Combine:
        """Return the mean over the owners of each class, or what trains prototypes."""
        if self.trained is None:
            return MeanPrototypes(self.by_count)
        return self.trained.of(data.num_classes, common_feature_size("Prototypes", models, data))

    def train(
        self,
        held: Sequence[Student],
        tools: Tools,
        round_: int,
        *,
        exchanging: bool,  # noqa: ARG002
    ) -> list[Task]:
        """Return the local epochs, near the prototypes that came back last."""
        works = tools.work_plan.local([student.client_id for student in held], round_)
        return self._near(held, works, tools)

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> ClassKnowledge:  # noqa: ARG002
        """Return each client's mean features per class."""
        showing = [with_features(student, tools.inputs.data.num_classes) for student in held]
        means, counts = class_means(showing, tools)
        sent = knowledge_of(showing, means, counts)
        return replace(sent, num_examples=counts) if self.by_count else sent

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: ClassKnowledge
    ) -> list[Task]:
        """Keep what came back; return as many private steps as distillation would take."""
        for student, values, present in zip(held, received.values, received.present, strict=True):
            memory = tools.memory(student.client_id)
            memory["exchange/values"], memory["exchange/present"] = values, present
        works = tools.work_plan.budget_matched([student.client_id for student in held], round_)
        return self._near(held, works, tools)

    def evaluation_models(
        self,
        held: Sequence[Student],
        tools: Tools,
        phase: Phase,  # noqa: ARG002
    ) -> list[Student]:
        """Return models that predict by the nearest prototype, once there are prototypes."""
        num_classes = tools.inputs.data.num_classes
        evaluation_models = []
        for student in held:
            memory = tools.memory(student.client_id)
            if self.inference == "prototype" and "exchange/values" in memory:
                module = ByPrototype(
                    student.model,
                    num_classes,
                    memory["exchange/values"],
                    memory["exchange/present"],
                )
                student = replace(student, model=module.to(tools.inputs.device))
            evaluation_models.append(student)
        return evaluation_models

    def _near(self, held: Sequence[Student], works: list[Work], tools: Tools) -> list[Task]:
        """Return the steps of models that show their features, held near the prototypes."""
        num_classes, device = tools.inputs.data.num_classes, tools.inputs.device
        tasks = []
        for student, work in zip(held, works, strict=True):
            memory = tools.memory(student.client_id)
            if "exchange/values" in memory:
                student = with_features(student, num_classes)
                values, present = memory["exchange/values"], memory["exchange/present"]
                where = values.to(device), present.to(device)
                loss = NearPrototypes(num_classes, *where, self.lam, work.loss)
                work = replace(work, loss=loss)
            tasks.append((student, work))
        return tasks


@dataclass(frozen=True, slots=True, eq=False)
class NearPrototypes:
    """``CE(y, z) + lam * mean_d (f - prototype_y)**2`` of logits and features side by side."""

    num_classes: int
    prototypes: Tensor
    present: Tensor
    lam: float
    loss: SampleLoss = cross_entropy

    def __call__(self, sides: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample, [B]."""
        logits, features = sides[:, : self.num_classes], sides[:, self.num_classes :]
        near = prototype_loss(features, labels_of(targets), self.prototypes, self.present, self.lam)
        return self.loss(logits, targets) + near


class ByPrototype(nn.Module):
    """A model whose logits are the negative distances of its features to the prototypes."""

    prototypes: Tensor
    present: Tensor

    def __init__(
        self, model: nn.Module, num_classes: int, prototypes: Tensor, present: Tensor
    ) -> None:
        super().__init__()
        self.sides, self.num_classes = WithFeatures(model, num_classes), num_classes
        self.register_buffer("prototypes", prototypes, persistent=False)
        self.register_buffer("present", present, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to [B, C]."""
        features = self.sides(inputs)[:, self.num_classes :]
        return prototype_scores(features, self.prototypes, self.present)
