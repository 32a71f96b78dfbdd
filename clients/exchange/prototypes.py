"""FedProto: mean features per class go up, their mean over the owners comes back.

No public set. Prototypes are taken over the private training samples after training, in eval mode
(taken while the model still moves, they drift). What came back holds the features near in every
step on private data until the next exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from clients.exchange.class_means import (
    KeepsClassVectors,
    class_means,
    common_feature_size,
    knowledge_of,
    with_features,
)
from clients.exchange.protocol import Task, Tools
from fedfuse.distill import KL
from fedfuse.errors import require
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.kind import Combine, Kind
from fedfuse.exchange.prototypes import MeanPrototypes, prototype_loss, prototype_scores
from fedfuse.exchange.trained_prototypes import Trained
from fedfuse.local_loss import cross_entropy
from fedfuse.models.features import WithFeatures, last_linear
from fedfuse.protocols import ModelPlan
from fedfuse.train.facts import labels_of
from fedfuse.train.trainer import Student
from fedfuse.train.work import SampleLoss, Work
from fedfuse.types import FederatedData, Phase
from fedfuse.validation import require_flag, require_number, require_one_of


@dataclass(frozen=True, slots=True)
class Prototypes(KeepsClassVectors):
    """Exchange mean features per class (Tan et al., AAAI 2022, arXiv 2105.00243).

    Args:
        lam: Weight of the squared distance to the prototype, averaged over the features.
        inference: ``prototype`` predicts the class of the nearest prototype, as the authors' code
            does among the classes that the client owns (before the first exchange: by the head);
            ``head`` by the model's last layer.
        by_count: Weigh owners of a class by their samples of it, which then leave the client;
            the authors' code weighs them equally.
        trained: How the server trains prototypes of its own on those that came (FedTGP, Zhang et
            al., AAAI 2024, arXiv 2401.03230); None for their mean.
        soft_weight: Weight of what the client's last layer says of each class's mean features
            against the mean soft prediction of the class, which then travels with them (FedHKD,
            Chen et al., ICLR 2023, arXiv 2301.08968); 0 leaves predictions out.
        temperature: Of these predictions.
        noise: Standard deviation of Gaussian noise on the features that leave a client. It comes
            from the run's seed, so it shows what noise costs and hides nothing.
    """

    lam: float = 1.0
    inference: str = "prototype"
    by_count: bool = False
    trained: Trained | None = None
    soft_weight: float = 0.0
    temperature: float = 1.0
    noise: float = 0.0
    batchable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_number("Prototypes", "lam", self.lam, at_least=0)
        require_one_of("Prototypes", "inference", self.inference, ("prototype", "head"))
        require_flag("Prototypes", "by_count", self.by_count)
        alone = self.trained is None or not self.by_count
        require(alone, "Prototypes", "by_count", self.by_count, "false with trained prototypes")
        for name in ("soft_weight", "noise"):
            require_number("Prototypes", name, getattr(self, name), at_least=0)
        require_number("Prototypes", "temperature", self.temperature, above=0)
        alone, said = self.trained is None or not self.soft_weight, self.soft_weight
        require(alone, "Prototypes", "soft_weight", said, "0 with trained prototypes")

    @property
    def tests_logits(self) -> bool:
        """Whether the models that are tested answer with logits."""
        return self.inference == "head"

    @property
    def tells_label_counts(self) -> bool:
        """Whether how many samples of each class clients have leaves them."""
        return self.by_count

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return class vectors as long as the features of all models.

        Raises:
            ModelError: If the models' features are not of one size.
        """
        size = common_feature_size("Prototypes", models, data)
        more = data.num_classes if self.soft_weight else 0
        return Kind(ClassKnowledge, ClassKnowledge, {"D": size + more})

    def combine(self, models: ModelPlan, data: FederatedData) -> Combine:
        """Return the mean over the owners of each class, or what trains prototypes."""
        if self.trained is None:
            return MeanPrototypes(self.by_count, data.num_classes if self.soft_weight else 0)
        return self.trained.of(data.num_classes, common_feature_size("Prototypes", models, data))

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> ClassKnowledge:
        """Return each client's mean features per class, and mean predictions behind them."""
        num_classes = tools.inputs.data.num_classes
        showing = [with_features(student, num_classes) for student in held]

        def seen(sides: Tensor) -> Tensor:
            logits, features = sides[:, :num_classes], sides[:, num_classes:]
            if not self.soft_weight:
                return features
            return torch.cat([features, (logits / self.temperature).softmax(dim=1)], dim=1)

        means, counts = class_means(showing, tools, seen)
        if self.noise:
            for student, own, count in zip(held, means, counts, strict=True):
                features = self._parts(own)[0]
                draw = tools.streams.torch("client", student.client_id, "class means", round_)
                noise = torch.randn(features.shape, generator=draw)
                features += self.noise * noise * (count > 0).unsqueeze(1)
        sent = knowledge_of(showing, means, counts)
        return replace(sent, num_examples=counts) if self.by_count else sent

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
                features, _ = self._parts(memory["exchange/values"])
                present = memory["exchange/present"]
                module = ByPrototype(student.model, num_classes, features, present)
                student = replace(student, model=module.to(tools.inputs.device))
            evaluation_models.append(student)
        return evaluation_models

    def beside(self, student: Student, work: Work, tools: Tools, when: tuple[int, str]) -> Task:  # noqa: ARG002
        """Return the steps of a model that shows its features, held near the prototypes."""
        memory = tools.memory(student.client_id)
        if "exchange/values" not in memory:
            return student, work
        num_classes, device = tools.inputs.data.num_classes, tools.inputs.device
        values, present = memory["exchange/values"], memory["exchange/present"]
        values, present = values.to(device), present.to(device)
        features, said = self._parts(values)
        loss = NearPrototypes(num_classes, features, present, self.lam, work.loss)
        agrees = None
        if self.soft_weight and bool(present.any()):
            head = last_linear(student.model)
            known = features[present], said[present]
            agrees = AsTheOthersSay(head, *known, self.soft_weight, self.temperature)
        return with_features(student, num_classes), replace(work, loss=loss, penalty=agrees)

    def _parts(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean features [C, d] of what travels, a view, and the mean predictions."""
        size = values.shape[1] - (len(values) if self.soft_weight else 0)
        return values[:, :size], values[:, size:]


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


@dataclass(frozen=True, slots=True, eq=False)
class AsTheOthersSay:
    """``weight mean_c KL(q_c || softmax(h(f_c) / T))`` over n classes: FedHKD's second term.

    Args:
        head: h, the last layer that is trained.
        features: Mean features of the classes, [n, d].
        said: Mean predictions of their samples, [n, C].
        weight: The term's.
        temperature: T, of both predictions; the term is not multiplied by its square.
    """

    head: nn.Linear
    features: Tensor
    said: Tensor
    weight: float
    temperature: float

    def __call__(self, _: nn.Module) -> Tensor:
        """Return what a step adds to its loss."""
        match = KL(self.temperature, scale_by_t2=False)
        return self.weight * match(self.head(self.features), self.said).mean()


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
