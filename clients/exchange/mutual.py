"""FML: a small model travels; each client's own, of any architecture, and it teach each other.

One step moves both models with one batch and counts as one optimiser step; it costs a forward and
a backward pass of the small model more than a step of other methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from clients.exchange.both import TrainsBoth
from clients.exchange.models import SideBySide, Twins
from clients.exchange.protocol import Task, Tools
from clients.training.settings import BUDGETS
from fedfuse.distill.losses import KL
from fedfuse.exchange.models import AverageModels
from fedfuse.layout import Layout
from fedfuse.local_loss import cross_entropy
from fedfuse.models.plan import as_plan, build_checked
from fedfuse.models.pooling import settled
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student
from fedfuse.train.work import SampleLoss, Work
from fedfuse.types import FederatedData
from fedfuse.validation import require_number, require_one_of


@dataclass(frozen=True, slots=True)
class Mutual(TrainsBoth):
    """Exchange one small model, learn mutually with it (FML, Shen et al. 2020, arXiv 2006.16765).

    Args:
        model: The small model, the same for all clients: a plan or a factory.
        alpha: Share of the labels in the private model's loss; the rest is KL towards the small
            model's predictions. 1 switches the exchange off, and is what one public library has
            by default.
        beta: The same for the small model's loss.
        budget: ``optimiser_steps`` takes distillation's steps too; ``rounds`` the local epochs.
        buffers: ``average`` them too, or leave each client its ``own`` (batch norm statistics).
        temperature: Of both softmaxes of the KL terms, which are multiplied by its square.
    """

    model: object
    alpha: float = 0.5
    beta: float = 0.5
    budget: str = "optimiser_steps"
    buffers: str = "average"
    temperature: float = 1.0
    extra: ClassVar[str] = "a step moves both models of a client"
    begins_alike: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Mutual", "alpha", self.alpha, at_least=0, at_most=1)
        require_number("Mutual", "beta", self.beta, at_least=0, at_most=1)
        require_number("Mutual", "temperature", self.temperature, above=0)
        require_one_of("Mutual", "budget", self.budget, BUDGETS)
        require_one_of("Mutual", "buffers", self.buffers, ("average", "own"))
        object.__setattr__(self, "model", as_plan(self.model))

    def average(self, models: ModelPlan, data: FederatedData) -> AverageModels:  # noqa: ARG002
        """Return the average of the small models, weighed by samples."""
        small = self._build(data, entropy=0)
        layout = Layout.of(small, buffers=self.buffers == "average")
        return AverageModels(("shared",) * data.num_clients, {"shared": layout})

    def begin(
        self,
        models: ModelPlan,  # noqa: ARG002
        data: FederatedData,
        streams: Streams,
    ) -> dict[str, nn.Module]:
        """Return the small model, which starts alike everywhere."""
        return {"shared": self._build(data, streams.entropy("init", "exchange"))}

    def hold(self, client_id: int, model: nn.Module, tools: Tools) -> nn.Module:  # noqa: ARG002
        """Return the client's own model and the small one."""
        small = self.begin(tools.models, tools.inputs.data, tools.streams)["shared"]
        return Twins(shared=settled(small, tools.inputs.device), personal=model)

    def together(
        self,
        held: Sequence[Student],
        works: Sequence[Work],
        tools: Tools,  # noqa: ARG002
    ) -> list[Task]:
        """Return the steps with both models of each client."""
        how = self.alpha, self.beta, self.temperature
        return [
            (
                replace(student, model=SideBySide(student.model)),
                replace(work, loss=MutualLoss(*how, work.loss)),
            )
            for student, work in zip(held, works, strict=True)
        ]

    def _build(self, data: FederatedData, entropy: int) -> nn.Module:
        return build_checked(self.model, 0, data.input_shape, data.num_classes, entropy)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MutualLoss:
    """``a CE(y, p) + (1 - a) T^2 KL(s || p)`` plus ``b CE(y, s) + (1 - b) T^2 KL(p || s)``.

    p and s are the private and the small model; each is a fixed teacher to the other, and KL
    compares them at the temperature T.
    """

    alpha: float
    beta: float
    temperature: float = 1.0
    loss: SampleLoss = cross_entropy

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample from the logits side by side, [B]."""
        private, small = logits.chunk(2, dim=1)
        match = KL(self.temperature)

        def taught(teacher: Tensor) -> Tensor:
            return (teacher.detach() / self.temperature).softmax(dim=1)

        own = self.alpha * self.loss(private, targets)
        own = own + (1 - self.alpha) * match(private, taught(small))
        travelling = self.beta * self.loss(small, targets)
        return own + travelling + (1 - self.beta) * match(small, taught(private))
