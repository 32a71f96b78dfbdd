"""FML, FedKD: a small model travels; it and each client's own, of any kind, teach each other.

One step moves both models with one batch and counts as one optimiser step; it costs a forward and
a backward pass of the small model more than a step of other methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from clients.exchange.both import TrainsBoth
from clients.exchange.models import SharesModels, SideBySide, Twins, shared
from clients.exchange.protocol import Task, Tools
from clients.training.settings import BUDGETS
from fedfuse.distill.losses import EPS, KL
from fedfuse.exchange.kind import Combine, Kind
from fedfuse.exchange.low_rank import AverageChanges, LowRank
from fedfuse.exchange.models import AverageModels, ModelBank
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

BASE = "exchange/base"
"""Where a client remembers the small model that its changes are counted from, as a vector."""


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
        weighing: ``fixed`` by alpha and beta, or ``adaptive``: labels count 1, both KL terms one
            over the sum of both models' mean losses on the batch's labels (FedKD, Wu et al. 2022,
            arXiv 2108.13323).
        low_rank: Share of the singular directions of each matrix of the small model's change that
            travels in the model's place (FedKD); 0 sends the model.
    """

    model: object
    alpha: float = 0.5
    beta: float = 0.5
    budget: str = "optimiser_steps"
    buffers: str = "average"
    temperature: float = 1.0
    weighing: str = "fixed"
    low_rank: float = 0.0
    extra: ClassVar[str] = "a step moves both models of a client"
    begins_alike: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Mutual", "alpha", self.alpha, at_least=0, at_most=1)
        require_number("Mutual", "beta", self.beta, at_least=0, at_most=1)
        require_number("Mutual", "temperature", self.temperature, above=0)
        require_number("Mutual", "low_rank", self.low_rank, at_least=0, at_most=1)
        require_one_of("Mutual", "weighing", self.weighing, ("fixed", "adaptive"))
        require_one_of("Mutual", "budget", self.budget, BUDGETS)
        require_one_of("Mutual", "buffers", self.buffers, ("average", "own"))
        object.__setattr__(self, "model", as_plan(self.model))

    @property
    def adds_up_changes(self) -> bool:
        """Whether changes travel: a client that missed one would never hear of it again."""
        return self.low_rank > 0

    @property
    def last_suffices(self) -> bool:  # type: ignore[override]
        """Whether the last download says everything: a model does, of changes all count."""
        return not self.adds_up_changes

    def average(self, models: ModelPlan, data: FederatedData) -> AverageModels:  # noqa: ARG002
        """Return the average of the small models, weighed by samples."""
        small = self._build(data, entropy=0)
        layout = Layout.of(small, buffers=self.buffers == "average")
        return AverageModels(("shared",) * data.num_clients, {"shared": layout})

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return vectors of the small model, or of its change, shortened."""
        if not self.low_rank:
            return SharesModels.kind(self, models, data)
        size = self._code(self.average(models, data).layouts["shared"]).size
        return Kind(ModelBank, ModelBank, {"N": (size,) * data.num_clients})

    def combine(self, models: ModelPlan, data: FederatedData) -> Combine:
        """Return the average of the small models, or of their changes."""
        average = self.average(models, data)
        if not self.low_rank:
            return average
        return AverageChanges(average, {"shared": self._code(average.layouts["shared"])})

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

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> ModelBank:
        """Return the small models, or how they changed, and how many samples each has seen."""
        bank = SharesModels.share(self, held, tools, round_)
        if not self.low_rank:
            return bank
        code = self._code(self.layout(held[0]))
        changes = [
            code.shorten(vector - self._base(student, tools))
            for student, vector in zip(held, bank.vectors(), strict=True)
        ]
        return ModelBank.of(bank.client_ids.tolist(), bank.num_examples.tolist(), changes)

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: ModelBank
    ) -> list[Task]:
        """Take the average over, or the mean change; return the steps that are left."""
        if self.low_rank:
            code, whole = self._code(self.layout(held[0])), []
            for student, short in zip(held, received.vectors(), strict=True):
                whole.append(self._base(student, tools) + code.restore(short.cpu()))
                tools.memory(student.client_id)[BASE] = whole[-1]
            ids, samples = received.client_ids.tolist(), received.num_examples.tolist()
            received = ModelBank.of(ids, samples, whole)
        return TrainsBoth.learn(self, held, tools, round_, received)

    def together(
        self,
        held: Sequence[Student],
        works: Sequence[Work],
        tools: Tools,  # noqa: ARG002
    ) -> list[Task]:
        """Return the steps with both models of each client."""
        how = self.alpha, self.beta, self.temperature, self.weighing == "adaptive"
        return [
            (
                replace(student, model=SideBySide(student.model)),
                replace(work, loss=MutualLoss(*how, loss=work.loss)),
            )
            for student, work in zip(held, works, strict=True)
        ]

    def begin_round(self, student: Student, tools: Tools) -> None:
        """Let the client remember what the small model changes from, if changes travel."""
        if self.low_rank:
            self._base(student, tools)

    def _code(self, layout: Layout) -> LowRank:
        return LowRank(layout, self.low_rank)

    def _base(self, student: Student, tools: Tools) -> Tensor:
        """Return the small model as it last came, or began: what it has changed from."""
        memory = tools.memory(student.client_id)
        if BASE not in memory:
            memory[BASE] = self.layout(student).flatten(shared(student))
        return memory[BASE].cpu()

    def _build(self, data: FederatedData, entropy: int) -> nn.Module:
        return build_checked(self.model, 0, data.input_shape, data.num_classes, entropy)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MutualLoss:
    """``a CE(y, p) + (1 - a) T^2 KL(s || p)`` plus ``b CE(y, s) + (1 - b) T^2 KL(p || s)``.

    p and s are the private and the small model; each is a fixed teacher to the other, and KL
    compares them at the temperature T. ``adaptive`` (FedKD) weighs both CE with 1 and both KL with
    one over the sum of the batch's mean CE of p and s, a fixed number.
    """

    alpha: float
    beta: float
    temperature: float = 1.0
    adaptive: bool = False
    loss: SampleLoss = cross_entropy

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample from the logits side by side, [B]."""
        private, small = logits.chunk(2, dim=1)
        match = KL(self.temperature)

        def taught(teacher: Tensor) -> Tensor:
            return (teacher.detach() / self.temperature).softmax(dim=1)

        own, travelling = self.loss(private, targets), self.loss(small, targets)
        own_match, match_own = match(private, taught(small)), match(small, taught(private))
        if self.adaptive:
            unsure = (own.mean() + travelling.mean()).detach().clamp_min(EPS)
            return own + travelling + (own_match + match_own) / unsure
        own = self.alpha * own + (1 - self.alpha) * own_match
        return own + self.beta * travelling + (1 - self.beta) * match_own
