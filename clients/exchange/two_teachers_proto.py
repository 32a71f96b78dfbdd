"""MulKI between clients: the fused teacher and one's own past, weighed by prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from clients.exchange.feature_predictions import FeaturePredictions, features_of, showing
from clients.exchange.private_term import PrivateTerm, came
from clients.exchange.protocol import Task, Tools
from fedfuse.arrival import Arrival
from fedfuse.distill.class_relations import ClassRelations, told_of
from fedfuse.models.readings import WithReadings
from fedfuse.train.sides import FeatureTerm
from fedfuse.train.trainer import Student
from fedfuse.types import Teachers
from fedfuse.uptake import Chain
from fedfuse.uptake.two_teachers import with_the_past
from fedfuse.validation import require_number

OWN, OWNED = "exchange/own_prototypes", "exchange/own_present"
"""Where a client remembers the prototypes that it shared last, and of which classes."""
KEY = "two_teachers_proto"
"""Under which it remembers what it said before its last lesson, and the prototypes behind it."""


@dataclass(frozen=True, slots=True)
class TwoTeachersProto(PrivateTerm):
    """Two teachers and their prototypes (MulKI, arXiv 2411.06764, of which the abstract was read).

    Mean features per class go up with the predictions, their mean over the owners comes back. The
    target of a public sample is the teacher's and what the client said itself before its last
    lesson, by a softmax over two cosines: of the client's features to the fused prototype of the
    class that the teacher names, and to the client's own of then of the class that it named itself.
    And on private samples the client's classes are to lie to each other as the fused ones do: see
    :class:`~fedfuse.distill.class_relations.ClassRelations`. The form is ours.

    Args:
        tau: Temperature of the softmax over the two.
        relation: Weight of the classes' relations; 0 leaves them out.
        temperature: Of the softmaxes over classes.
    """

    tau: float = 1.0
    relation: float = 1.0
    temperature: float = 1.0
    remembers_samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        PrivateTerm.__post_init__(self)
        require_number("TwoTeachersProto", "tau", self.tau, above=0)
        require_number("TwoTeachersProto", "relation", self.relation, at_least=0)
        require_number("TwoTeachersProto", "temperature", self.temperature, above=0)

    @property
    def adds(self) -> bool:
        """Whether the relations weigh anything."""
        return self.relation > 0

    def answers(
        self, held: Sequence[Student], tools: Tools, round_: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits and prototypes; the clients remember the latter."""
        logits, fields = FeaturePredictions.answers(self, held, tools, round_)
        for row, student in enumerate(held):
            memory = tools.memory(student.client_id)
            memory[OWN] = fields["prototypes"][row].clone()
            memory[OWNED] = fields["present"][row].clone()
        return logits, fields

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: Teachers
    ) -> list[Task]:
        """Return the steps towards the teacher and the past, before any other uptake."""
        stage = ByPrototypes(self.tau, self.temperature, features_of(held, tools, round_))
        uptake = stage if tools.uptake is None else Chain((stage, tools.uptake))
        return FeaturePredictions.learn(self, held, replace(tools, uptake=uptake), round_, received)

    def shows(self, student: Student, tools: Tools) -> Student:
        """Return the client with a model that reads its features by its own prototypes."""
        num_classes, shown = tools.inputs.data.num_classes, showing(student, tools)
        nothing = torch.zeros(num_classes, tools.width)
        own = tools.memory(student.client_id).get(OWN, nothing).to(tools.inputs.device)
        return replace(student, model=WithReadings(shown.model, num_classes, own, squared=True))

    def told(self, client_id: int, labels: Tensor, tools: Tools) -> tuple[FeatureTerm, Tensor]:
        """Return the relations' term, and how each label's class lies to the others, fused."""
        fused, present = came(client_id, tools, labels.device)
        own = tools.memory(client_id).get(OWNED, torch.zeros_like(present)).to(labels.device)
        return ClassRelations(self.relation), told_of(fused, present & own, labels)


@dataclass(frozen=True, slots=True)
class ByPrototypes:
    """The uptake: how alike features are to the prototype of the class that each teacher names.

    Args:
        tau: Temperature of the softmax over the two.
        temperature: Of the softmaxes over classes.
        features: The clients' own of the round's public samples, [k, m, D].
    """

    tau: float
    temperature: float
    features: Tensor

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers:
        """Return the teachers with mixed targets; remember what the clients say and hold now."""
        fused = teachers.prototypes
        assert fused is not None
        client_ids = teachers.client_ids.tolist()

        def alike(
            row: int, theirs: Tensor, said: Tensor, _: Tensor, __: Tensor
        ) -> tuple[Tensor, Tensor]:
            past = at.memory[client_ids[row]].get(f"{KEY}/prototypes", torch.zeros_like(fused[row]))
            return (
                functional.cosine_similarity(self.features[row], fused[row][theirs.argmax(dim=1)]),
                functional.cosine_similarity(self.features[row], past[said.argmax(dim=1)]),
            )

        made = with_the_past(teachers, at, alike, self.tau, self.temperature, KEY)
        for client_id in client_ids:
            memory = at.memory[client_id]
            if OWN in memory:
                memory[f"{KEY}/prototypes"] = memory[OWN].clone()
        return made
