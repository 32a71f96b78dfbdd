"""FCCL and FCCL+: local training also keeps near models that the client has been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from clients.exchange.feature_predictions import FeaturePredictions
from clients.exchange.models import BesideItsPast
from clients.exchange.predictions import Predictions
from clients.exchange.protocol import Task, Tools
from fedfuse.distill.labels import require_classes
from fedfuse.distill.past import NearItsPast
from fedfuse.errors import DataError, require
from fedfuse.exchange.beside import FEATURES
from fedfuse.exchange.instance_similarity import InstanceSimilarity, similarities, with_positions
from fedfuse.exchange.kind import Kind
from fedfuse.layout import Layout
from fedfuse.models.features import WithFeatures
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work
from fedfuse.types import FederatedData, KnowledgeBank, Teachers
from fedfuse.validation import require_number

LAST, FIRST = "exchange/last_model", "exchange/first_model"
"""Where a client remembers its model as it was when it last shared, and when it first did, laid out
[N]: after local training, before the lesson."""
MOST = 4096
"""Public samples of which every two are compared, at most: 64 MiB a client each way."""


class NearPastModels(Predictions):
    """Local training that distils models of the client's past; before it has shared it is plain.

    A frozen dataclass that inherits this has ``temperature``, and says in ``past`` which models
    count how much.
    """

    __slots__ = ()
    temperature: float
    batchable: ClassVar[bool] = False
    beside_label: ClassVar[bool] = False

    @property
    def past(self) -> dict[str, float]:
        """Return the weight of each former model, by where it is remembered."""
        raise NotImplementedError

    @property
    def extra(self) -> str:
        """What a step costs beyond a step of local training, in words."""
        count = len(self.past)
        models = "a model" if count == 1 else f"{count} models"
        return f"a step of the local epochs also asks {models} of the client's past" * bool(count)

    def _check(self, *numbers: str) -> None:
        name = type(self).__name__
        for number in numbers:
            require_number(name, number, getattr(self, number), at_least=0)
        require_number(name, "temperature", self.temperature, above=0)
        alone = self.kept_teacher is None
        require(alone, name, "kept_teacher", self.kept_teacher, "null: its teachers are its own")

    def train(
        self, held: Sequence[Student], tools: Tools, round_: int, *, exchanging: bool
    ) -> list[Task]:
        """Return the local epochs, once the client has shared near what it was when it did."""
        tasks = super().train(held, tools, round_, exchanging=exchanging)
        return [self._near(*task, tools) for task in tasks]

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> KnowledgeBank:
        """Remember the models as local training left them; return the predictions."""
        self.remember(held, tools)
        return super().share(held, tools, round_)

    def remember(self, held: Sequence[Student], tools: Tools) -> None:
        """Let clients remember what they are now, as the last and, at first, as the first."""
        for student in held:
            memory = tools.memory(student.client_id)
            now = Layout.of(student.model).flatten(student.model)
            for name in self.past:
                memory[name] = memory.get(FIRST, now) if name == FIRST else now

    def _near(self, student: Student, work: Work, tools: Tools) -> Task:
        """Return the steps of a client beside what it has been, if it has been anything."""
        memory = tools.memory(student.client_id)
        if not self.past or any(name not in memory for name in self.past):
            return student, work
        loss = NearItsPast(
            tuple(self.past.values()), self.temperature, self.beside_label, work.loss
        )
        beside = BesideItsPast(student.model, [memory[name] for name in self.past])
        return replace(student, model=beside), replace(work, loss=loss)


@dataclass(frozen=True, slots=True)
class FCCL(NearPastModels):
    """Exchange predictions; local training keeps the last round's and the first model's answers.

    Federated cross-correlation and continual learning (Huang et al., CVPR 2022): its collaborative
    loss is ``distill=cross_correlation``, this its local one.

    Args:
        inter: Weight of the divergence from the model as it last shared, which knows of others.
        intra: The same from the model as it first shared, which knows of its own data alone.
        temperature: Of both.
    """

    inter: float = 1.0
    intra: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        Predictions.__post_init__(self)
        self._check("inter", "intra")

    @property
    def past(self) -> dict[str, float]:
        """Return the weight of each former model, by where it is remembered."""
        both = {LAST: self.inter, FIRST: self.intra}
        return {name: weight for name, weight in both.items() if weight}


@dataclass(frozen=True, slots=True)
class FCCLPlus(NearPastModels, FeaturePredictions):
    """Exchange predictions and how like each other clients find the public samples.

    FCCL+ (Huang et al. 2023, arXiv 2309.16286): federated instance similarity beside the
    cross-correlation, and local training that keeps what its last model said beside the label.

    Args:
        inter: Weight of the divergence, over the classes beside the label, from the model as it
            last shared.
        temperature: Of it.
        similarity: Weight of the batch's similarities in the lesson.
        tau: Temperature of these.
    """

    inter: float = 1.0
    temperature: float = 3.0
    similarity: float = 3.0
    tau: float = 0.02
    up: ClassVar[frozenset[str]] = FEATURES
    down: ClassVar[frozenset[str]] = FEATURES
    relational: ClassVar[bool] = True
    beside_label: ClassVar[bool] = True

    def __post_init__(self) -> None:
        FeaturePredictions.__post_init__(self)
        self._check("inter", "similarity")
        require_number("FCCLPlus", "tau", self.tau, above=0)
        allowed = "null: of each sample its likeness to every other one travels"
        require(self.width is None, "FCCLPlus", "width", self.width, allowed)

    @property
    def past(self) -> dict[str, float]:
        """Return the weight of each former model, by where it is remembered."""
        return {LAST: self.inter} if self.inter else {}

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return predictions, teachers and likenesses.

        Raises:
            FedfuseError: If there are too many samples, too few classes, or a model whose features
                cannot be told.
        """
        if self.inter:
            why, instead = "compares the classes beside the label", "Set exchange.inter=0."
            require_classes("FCCL+", why, data.num_classes, 3, instead)
        return FeaturePredictions.kind(self, models, data)

    def size(self, models: ModelPlan, data: FederatedData) -> int:
        """Return how many public samples there are.

        Raises:
            FedfuseError: As :meth:`kind`.
        """
        FeaturePredictions.size(self, models, data)
        if (count := len(data.public)) > MOST:
            raise DataError(
                "FCCL+ compares every two public samples, and there are too many",
                got=f"{count} public samples",
                allowed=f"at most {MOST}",
                next_step=f"Set public.size={MOST} or less, or method=fccl.",
            )
        return count

    def showing(self, student: Student, tools: Tools) -> Student:
        """Return a client whose model returns its features, as they are, after C logits."""
        return replace(student, model=WithFeatures(student.model, tools.inputs.data.num_classes))

    def answers(
        self, held: Sequence[Student], tools: Tools, round_: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits [k, m, C] on the round's public samples, and their likenesses [k, m, D]."""
        asked = [self.showing(student, tools) for student in held]
        public, num_classes = tools.inputs.public(round_), tools.inputs.data.num_classes
        sides = tools.trainer.predict(asked, public, tools.plan.eval_batch_size).cpu()
        logits, features = sides[..., :num_classes], sides[..., num_classes:]
        return logits.contiguous(), {"features": similarities(features, tools.width)}

    def lesson(
        self,
        tasks: list[Task],
        tools: Tools,
        round_: int,  # noqa: ARG002
        received: Teachers,
    ) -> list[Task]:
        """Return the steps of distillation with the likenesses of their samples."""
        if not self.similarity:
            return tasks
        assert received.features is not None
        term = InstanceSimilarity(self.similarity, self.tau)
        return self.with_term(tasks, tools, term, map(with_positions, received.features))
