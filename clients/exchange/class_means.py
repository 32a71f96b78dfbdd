"""What exchanges of class means do alike: means of private samples' features go up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from clients.exchange.private_answers import private_answers
from clients.exchange.private_steps import PrivateSteps
from clients.exchange.protocol import Task, Tools
from fedfuse.errors import ModelError
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.prototypes import class_prototypes
from fedfuse.models.features import WithFeatures, feature_size
from fedfuse.models.plan import one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData


class KeepsClassVectors(PrivateSteps):
    """Clients remember a vector for each class, and which there are, until the next come."""

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: ClassKnowledge
    ) -> list[Task]:
        """Keep what came back; return as many private steps as distillation would take."""
        for student, values, present in zip(held, received.values, received.present, strict=True):
            memory = tools.memory(student.client_id)
            memory["exchange/values"], memory["exchange/present"] = values, present
        return self.after(held, tools, round_)


def common_feature_size(what: str, models: ModelPlan, data: FederatedData) -> int:
    """Return d, the number of features that all models have.

    Raises:
        ModelError: If they have not one number, or a model has no last linear layer.
    """
    sizes = {
        name: feature_size(model, data.num_classes)
        for name, model in one_of_each(models, data).items()
    }
    if len(set(sizes.values())) > 1:
        raise ModelError(
            f"{what} need models whose features have one size",
            got=", ".join(f"{size} in '{name}'" for name, size in sizes.items()),
            next_step="Choose models with equal feature sizes, or a method that shares "
            "predictions.",
        )
    return next(iter(sizes.values()))


def with_features(student: Student, num_classes: int) -> Student:
    """Return the client with a model that returns its features beside its logits."""
    return replace(student, model=WithFeatures(student.model, num_classes))


def class_means(
    showing: Sequence[Student], tools: Tools, seen: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return means over the private training samples of each class, and how many there are.

    In eval mode, of models that return features beside their logits.

    Args:
        showing: The clients, with such models.
        tools: Of the node.
        seen: Maps what the models return, [N, C + d], to what is averaged, [N, D]; None for the
            features.

    Returns:
        float32 [k, C, D], zero where a client has no samples, and int64 [k, C].
    """
    num_classes = tools.inputs.data.num_classes
    means = [
        class_prototypes(
            (side[:, num_classes:] if seen is None else seen(side)).cpu(), labels.cpu(), num_classes
        )
        for side, _, labels in private_answers(showing, tools)
    ]
    return torch.stack([values for values, _ in means]), torch.stack([n for _, n in means])


def knowledge_of(showing: Sequence[Student], means: Tensor, counts: Tensor) -> ClassKnowledge:
    """Return what the clients send of their class means, without how many samples they have."""
    ids = torch.tensor([student.client_id for student in showing])
    return ClassKnowledge(ids, means, counts > 0)
