"""FD / FedDistill: mean logits per class go up, the mean of the *others* comes back.

No public set. Means are taken over the private training samples, after training, in eval mode;
a class that a client does not own is absent, not zero. What came back regularises every step on
private data until the next exchange: those that stand in distillation's place, and the next
round's local training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from clients.exchange.class_means import KeepsClassVectors, class_means, knowledge_of
from clients.exchange.protocol import Task, Tools
from fedfuse.distill.losses import soft_cross_entropy
from fedfuse.exchange.class_logits import LeaveOneOut
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.kind import Kind
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work
from fedfuse.types import FederatedData
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class ClassLogits(KeepsClassVectors):
    """Exchange mean logits per class (Jeong et al. 2018, arXiv 1811.11479).

    Args:
        gamma: Weight of the teacher's cross-entropy beside the labels'; 0 learns alone.
        temperature: Of both softmaxes of that term.
    """

    gamma: float = 1.0
    temperature: float = 1.0
    takes_local_loss: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_number("ClassLogits", "gamma", self.gamma, at_least=0)
        require_number("ClassLogits", "temperature", self.temperature, above=0)

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:  # noqa: ARG002
        """Return class vectors of C logits; any models can exchange them."""
        return Kind(ClassKnowledge, ClassKnowledge, {"D": data.num_classes})

    def combine(self, models: ModelPlan, data: FederatedData) -> LeaveOneOut:  # noqa: ARG002
        """Return the leave-one-out mean."""
        return LeaveOneOut()

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> ClassKnowledge:  # noqa: ARG002
        """Return each client's mean logits per class."""
        return knowledge_of(held, *class_means(held, tools, lambda logits: logits))

    def beside(self, student: Student, work: Work, tools: Tools, when: tuple[int, str]) -> Task:  # noqa: ARG002
        """Return the steps with each sample's class teacher beside its label."""
        memory = tools.memory(student.client_id)
        if "exchange/values" not in memory:
            return student, work
        soft = (memory["exchange/values"] / self.temperature).softmax(dim=1)
        teachers = torch.where(memory["exchange/present"][:, None], soft, 0)
        hard = one_hot(work.targets, len(teachers)).float()
        beside = teachers.to(work.targets.device)[work.targets]
        loss = TaughtByClass(self.gamma, self.temperature)
        return student, replace(work, targets=torch.cat([hard, beside], dim=1), loss=loss)


@dataclass(frozen=True, slots=True)
class TaughtByClass:
    """``CE(y, z) + gamma CE(teacher_y, z / T)``; a class without a teacher adds nothing.

    Targets hold the label's one-hot vector and the teacher's probabilities side by side,
    [B, 2C]; the latter are zero where the class has no teacher.
    """

    gamma: float
    temperature: float

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample, [B]."""
        hard, soft = targets.chunk(2, dim=1)
        taught = soft_cross_entropy(logits, soft, self.temperature)
        return soft_cross_entropy(logits, hard) + self.gamma * taught
