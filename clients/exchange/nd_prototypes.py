"""KD++ between clients: prototypes of all owners say how long and where a class's features are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clients.exchange.feature_predictions import CAME, PRESENT, FeaturePredictions, showing
from clients.exchange.predictions import Predictions
from clients.exchange.protocol import Task, Tools
from fedfuse.distill.norm_and_direction import NormAndDirection, told_of
from fedfuse.train.facts import labels_of
from fedfuse.train.sides import on_sides
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work
from fedfuse.types import Teachers


@dataclass(frozen=True, slots=True)
class NDPrototypes(FeaturePredictions):
    """Regularise feature norm and direction on private data (KD++, arXiv 2305.17007).

    Mean features per class go up with the predictions, their mean over the owners comes back, and
    every step on private data (of local training, and beside distillation) adds
    ``lam (1 - <s, e_y> / max(|s|, nu_y))``: e_y is the unit vector of its class's prototype, nu_y
    the prototype's norm. The authors take a teacher's class means, and for nu a sample's own norm
    under the teacher; that prototypes come from all clients is ours.

    Args:
        lam: Weight of the term; 0 exchanges prototypes and learns nothing of them.
    """

    lam: float = 2.0

    def __post_init__(self) -> None:
        FeaturePredictions.__post_init__(self)
        NormAndDirection(self.lam)

    def train(
        self, held: Sequence[Student], tools: Tools, round_: int, *, exchanging: bool
    ) -> list[Task]:
        """Return the local epochs, held near the prototypes that came back last."""
        tasks = Predictions.train(self, held, tools, round_, exchanging=exchanging)
        known = any(CAME in tools.memory(student.client_id) for student in held)
        if self.lam == 0 or not known:
            return tasks
        return [(showing(s, tools), self._near(work, s.client_id, tools)) for s, work in tasks]

    def lesson(
        self,
        tasks: list[Task],
        tools: Tools,
        round_: int,  # noqa: ARG002
        received: Teachers,  # noqa: ARG002
    ) -> list[Task]:
        """Return the steps of distillation, whose private samples are held near the prototypes."""
        if self.lam == 0 or all(work.anchor is None for _, work in tasks):
            return tasks
        return [
            (
                showing(student, tools),
                on_sides(
                    work,
                    tools.inputs.data.num_classes,
                    anchor=lambda own, i=student.client_id: self._near(own, i, tools),  # type: ignore[misc]
                ),
            )
            for student, work in tasks
        ]

    def _near(self, work: Work, client_id: int, tools: Tools) -> Work:
        """Return steps on private data with the term beside their loss."""
        memory, num_classes = tools.memory(client_id), tools.inputs.data.num_classes
        values = memory.get(CAME, torch.zeros(num_classes, tools.width))
        present = memory.get(PRESENT, torch.zeros(num_classes, dtype=torch.bool))
        labels = labels_of(work.targets)
        told = told_of(values.to(labels.device), present.to(labels.device), labels)
        return on_sides(work, num_classes, NormAndDirection(self.lam), told)
