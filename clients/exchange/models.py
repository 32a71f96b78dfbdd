"""What the exchanges of models have in common: which models travel, and a client's two models."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from clients.exchange.protocol import Exchange, Tools
from fedfuse.errors import ModelError
from fedfuse.exchange.kind import Combine, Kind
from fedfuse.exchange.models import AverageModels, ModelBank, SharedModels
from fedfuse.exchange.weights import proximal_term
from fedfuse.layout import Layout
from fedfuse.models.plan import one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student
from fedfuse.train.work import Penalty
from fedfuse.types import FederatedData, Phase


def layouts(
    models: ModelPlan, data: FederatedData, *, mixed: str, buffers: str
) -> tuple[tuple[str, ...], dict[str, Layout]]:
    """Return each client's architecture, and how the models of each are laid out.

    Args:
        models: Which client runs which architecture.
        data: The federation's data.
        mixed: ``refuse`` or ``group``: what to do with more than one architecture.
        buffers: ``average`` or ``own``: whether buffers travel.

    Raises:
        ModelError: If there are several architectures and ``mixed`` is ``refuse``.
    """
    each = one_of_each(models, data)
    if len(each) > 1 and mixed == "refuse":
        raise ModelError(
            "Models of different architectures cannot be averaged",
            got=", ".join(each),
            allowed="one architecture",
            next_step="Set exchange.mixed=group to average within each architecture, or choose a "
            "method that shares predictions.",
        )
    names = tuple(models.name(client_id) for client_id in range(data.num_clients))
    return names, {
        name: Layout.of(model, buffers=buffers == "average") for name, model in each.items()
    }


def near(model: nn.Module, strength: float) -> Penalty:
    """Return ``strength / 2 |w - w_0|**2`` around the model's weights as they are now."""
    anchor = {name: value.detach().clone() for name, value in model.named_parameters()}

    def penalty(moving: nn.Module) -> Tensor:
        return proximal_term(dict(moving.named_parameters()), anchor, strength)

    return penalty


class Twins(nn.Module):
    """A client with two models: one that takes part in the averages and one of its own.

    One module holds both, so that they are remembered, moved and saved together; as a model it is
    the client's own.

    Args:
        shared: The model that is sent.
        personal: The model that stays; a copy of ``shared`` if None.
    """

    def __init__(self, shared: nn.Module, personal: nn.Module | None = None) -> None:
        super().__init__()
        self.shared = shared
        self.personal = copy.deepcopy(shared) if personal is None else personal

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to the personal model's logits."""
        logits: Tensor = self.personal(inputs)
        return logits


class SideBySide(nn.Module):
    """Both models of a client at once."""

    def __init__(self, twins: nn.Module) -> None:
        super().__init__()
        self.twins = twins

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to the logits of the client's own model and of the small one, [B, 2C]."""
        return torch.cat([self.twins(inputs), self.twins.shared(inputs)], dim=1)  # type: ignore[operator]

    def separate(self) -> list[nn.Module]:
        """Return the two: a gradient is clipped for each by itself."""
        return [self.twins.personal, self.twins.shared]  # type: ignore[list-item]


class BesideItsPast(nn.Module):
    """A model and, beside it, n that it has been: in eval mode, without gradients.

    Args:
        model: The model.
        past: Each of them as :class:`~fedfuse.layout.Layout` lays out a model with its buffers;
            None for the one that it is now.
    """

    def __init__(self, model: nn.Module, past: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.model = model
        # In a list, lest it be registered: training would change its batch norm and draw dropout.
        count = 1 if past is None else len(past)
        self._past = [copy.deepcopy(model).eval().requires_grad_(False) for _ in range(count)]
        for was, vector in zip(self._past, past or (), strict=False):
            Layout.of(model).load(was, vector)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to the logits of the model and of each that it has been, [B, (1 + n) C]."""
        return torch.cat([self.model(inputs), *(was(inputs) for was in self._past)], dim=1)


def shared(student: Student) -> nn.Module:
    """Return the model of a student that takes part in the averages."""
    return student.model.shared if isinstance(student.model, Twins) else student.model


def as_shared(student: Student) -> Student:
    """Return the student with the model that takes part in the averages."""
    return replace(student, model=shared(student))


def as_personal(student: Student) -> Student:
    """Return the student with the model of its own."""
    own = student.model.personal if isinstance(student.model, Twins) else student.model
    return replace(student, model=own)


def bank_of(held: Sequence[Student], layout: Layout, sizes: Sequence[int]) -> ModelBank:
    """Return what the clients send: their shared models, laid out."""
    vectors = [layout.flatten(shared(student)) for student in held]
    return ModelBank.of([student.client_id for student in held], sizes, vectors)


class SharesModels(Exchange):
    """What the exchanges of models do alike: a client's shared model goes up, with its samples."""

    buffers: str
    batchable: ClassVar[bool] = False
    begins_alike: ClassVar[bool] = False
    """Whether all clients' shared models begin alike, whatever ``client.init`` says."""

    def average(self, models: ModelPlan, data: FederatedData) -> AverageModels:
        """Return how the models of each architecture are averaged."""
        raise NotImplementedError

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return model vectors.

        Raises:
            ModelError: If the clients' models cannot be averaged.
        """
        average = self.average(models, data)
        sizes = tuple(average.layouts[name].size for name in average.architectures)
        return Kind(ModelBank, SharedModels, {"N": sizes})

    def combine(self, models: ModelPlan, data: FederatedData) -> Combine:
        """Return the average within each architecture."""
        return self.average(models, data)

    def begin(
        self, models: ModelPlan, data: FederatedData, streams: Streams
    ) -> dict[str, nn.Module]:
        """Return the shared model of each architecture as clients that begin alike have it."""
        return one_of_each(models, data, lambda name: streams.entropy("init", name))

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> ModelBank:  # noqa: ARG002
        """Return the models, and how many samples each has seen."""
        sizes = [len(tools.inputs.data.clients[student.client_id].train) for student in held]
        return bank_of(held, self.layout(held[0]), sizes)

    def layout(self, student: Student) -> Layout:
        """Return what of a client's model travels."""
        return Layout.of(shared(student), buffers=self.buffers == "average")


class KeepsOwn(SharesModels):
    """A client also has a model of its own, which is tested: at first the shared one's copy."""

    mixed: str

    def average(self, models: ModelPlan, data: FederatedData) -> AverageModels:
        """Return the average, weighed by samples, within each architecture."""
        return AverageModels(*layouts(models, data, mixed=self.mixed, buffers=self.buffers))

    def hold(self, client_id: int, model: nn.Module, tools: Tools) -> nn.Module:  # noqa: ARG002
        """Return both models, equal at first."""
        return Twins(model)

    def evaluation_models(
        self,
        held: Sequence[Student],
        tools: Tools,  # noqa: ARG002
        phase: Phase,  # noqa: ARG002
    ) -> list[Student]:
        """Return the clients' own models."""
        return [as_personal(student) for student in held]


def take(student: Student, layout: Layout, vector: Tensor, *, keep_moments: bool = False) -> None:
    """Let the student's shared model become what came back.

    Args:
        student: Whose model it is.
        layout: How the vector is laid out.
        vector: What came back.
        keep_moments: Whether the optimiser keeps the moments it gathered on the model that is
            replaced. FedAvg's clients start theirs afresh.
    """
    model = shared(student)
    layout.load(model, vector.to(next(model.parameters()).device))
    if not keep_moments:
        student.forget(model.parameters())


def become(model: nn.Module, other: nn.Module) -> None:
    """Write the weights and buffers of ``other`` into ``model``."""
    with torch.no_grad():
        for mine, theirs in zip(
            model.state_dict().values(), other.state_dict().values(), strict=True
        ):
            mine.copy_(theirs)
