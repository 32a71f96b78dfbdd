"""KD³'s shared classifier: what the clients' features say to the mean of all last layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from clients.exchange.feature_predictions import FeaturePredictions
from clients.exchange.predictions import Predictions
from clients.exchange.protocol import Task, Tools
from fedfuse.errors import ModelError, require
from fedfuse.exchange.beside import Beside, MeanHeads
from fedfuse.models.features import WithFeatures, feature_size
from fedfuse.models.heads import head_rows
from fedfuse.models.plan import one_of_each
from fedfuse.models.readings import WithReadings
from fedfuse.protocols import ModelPlan
from fedfuse.train.sides import OnReadings, on_sides
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData, Teachers
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class SharedClassifier(FeaturePredictions):
    """Distil through a shared last layer, too (KD³, arXiv 2307.11469; the abstract was read).

    Every client's last layer goes up with its predictions, bias and all, their mean comes back, and
    a public sample's loss is ``loss(z, t) + weight * loss(z', t)``: z the client's own logits, z'
    what the shared layer, which stays as it came, makes of the client's features. So features of
    one client are to mean to a classifier what those of the others do. The form is ours.

    Args:
        weight: Of the loss through the shared layer; 0 exchanges layers and learns nothing of them.
        width: None: a last layer reads the features as they are.
    """

    weight: float = 1.0
    up: ClassVar[frozenset[str]] = frozenset({"prototypes"})
    down: ClassVar[frozenset[str]] = frozenset({"prototypes"})

    def __post_init__(self) -> None:
        FeaturePredictions.__post_init__(self)
        require(self.width is None, "SharedClassifier", "width", self.width, "null")
        require_number("SharedClassifier", "weight", self.weight, at_least=0)

    def size(self, models: ModelPlan, data: FederatedData) -> int:
        """Return the numbers of a last layer for each class, d + 1.

        Raises:
            ModelError: If there is more than one architecture, or one without a last linear layer.
        """
        found = one_of_each(models, data)
        if len(found) > 1:
            raise ModelError(
                "A shared classifier reads the features of one architecture",
                got=", ".join(found),
                next_step="Choose one model for all clients, or exchange=predictions.",
            )
        (model,) = found.values()
        return feature_size(model, data.num_classes) + 1

    def beside(self) -> Beside:
        """Return the mean of the last layers."""
        return MeanHeads()

    def answers(
        self, held: Sequence[Student], tools: Tools, round_: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits on the round's public samples and last layers, [k, C, d + 1]."""
        logits, fields = Predictions.answers(self, held, tools, round_)
        heads = torch.stack([head_rows(student.model) for student in held])
        return logits, {**fields, "prototypes": heads}

    def lesson(
        self,
        tasks: list[Task],
        tools: Tools,
        round_: int,  # noqa: ARG002
        received: Teachers,
    ) -> list[Task]:
        """Return the steps of distillation, through the client's last layer and the shared one."""
        if self.weight == 0:
            return tasks
        assert received.prototypes is not None
        num_classes, made = tools.inputs.data.num_classes, []
        for (student, work), head in zip(tasks, received.prototypes, strict=True):
            shared = head.to(tools.inputs.device)
            model = WithReadings(
                WithFeatures(student.model, num_classes),
                num_classes,
                shared[:, :-1].contiguous(),
                shared[:, -1].contiguous(),
            )
            loss = OnReadings(work.loss, num_classes, self.weight)
            both = replace(on_sides(work, num_classes), loss=loss)
            made.append((replace(student, model=model), both))
        return made
