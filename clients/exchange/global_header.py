"""FedGH: mean features per class go up, one last layer that was trained on them comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from clients.exchange.class_means import (
    class_means,
    common_feature_size,
    knowledge_of,
    with_features,
)
from clients.exchange.private_steps import PrivateSteps
from clients.exchange.protocol import Task, Tools
from fedfuse.errors import ModelError
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.heads import Heads, TrainedHeader
from fedfuse.exchange.kept_model import KeptModel
from fedfuse.exchange.kind import Kind
from fedfuse.models.features import last_linear
from fedfuse.models.heads import put_head
from fedfuse.models.plan import one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData
from fedfuse.validation import require_count, require_number


@dataclass(frozen=True, slots=True)
class GlobalHeader(PrivateSteps):
    """Exchange class means for a header trained on them (Yi et al., ACM MM 2023, arXiv 2303.13137).

    The header takes the place of each client's last layer, and private steps follow, as many as
    distillation would take. Architectures may differ; their features must have one size.

    Args:
        server_epochs: Passes of the server over a round's class means; its steps come on top of
            the clients', and are counted as ``server_steps``.
        server_batch_size: Class means per step.
        server_learning_rate: Of the server's plain SGD.
        seed: Of the header's first weights and of the server's shuffles.
    """

    server_epochs: int = 100
    server_batch_size: int = 10
    server_learning_rate: float = 0.01
    seed: int = 0
    batchable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_count("GlobalHeader", "server_epochs", self.server_epochs)
        require_count("GlobalHeader", "server_batch_size", self.server_batch_size)
        require_number("GlobalHeader", "server_learning_rate", self.server_learning_rate, above=0)

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return class vectors as long as the features of all models, and last layers.

        Raises:
            ModelError: If the models' features are not of one size, or a last layer has no bias.
        """
        size = common_feature_size("Headers", models, data)
        require_bias(models, data)
        return Kind(ClassKnowledge, Heads, {"D": size, "H": size + 1})

    def combine(self, models: ModelPlan, data: FederatedData) -> TrainedHeader:
        """Return what trains the header."""
        size = common_feature_size("Headers", models, data)
        made = partial(nn.Linear, size, data.num_classes)
        header = KeptModel("header", made, Streams(self.seed))
        how = self.server_epochs, self.server_batch_size, self.server_learning_rate
        return TrainedHeader(header, *how)

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> ClassKnowledge:  # noqa: ARG002
        """Return each client's mean features per class."""
        showing = [with_features(student, tools.inputs.data.num_classes) for student in held]
        return knowledge_of(showing, *class_means(showing, tools))

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: Heads
    ) -> list[Task]:
        """Take the header over; return as many private steps as distillation would take."""
        for student, head in zip(held, received.heads, strict=True):
            take_head(student, head)
        return self.after(held, tools, round_)


def require_bias(models: ModelPlan, data: FederatedData) -> None:
    """Raise ModelError unless all last layers have a bias, which those that travel have."""
    bare = [n for n, m in one_of_each(models, data).items() if last_linear(m).bias is None]
    if bare:
        raise ModelError(
            "A last layer that comes back has a bias",
            got=f"none in {', '.join(map(repr, bare))}",
            allowed="models that end in an nn.Linear with bias=True",
            next_step="Choose other models, or a method that shares predictions.",
        )


def take_head(student: Student, head: Tensor) -> None:
    """Let the client's last layer become what came back, without the moments of the one before."""
    student.forget(put_head(student.model, head).parameters())
