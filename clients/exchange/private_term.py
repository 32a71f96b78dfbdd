"""What prototypes that came back add to every step on private data: for exchanges that say what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clients.exchange.feature_predictions import CAME, PRESENT, FeaturePredictions, showing
from clients.exchange.predictions import Predictions
from clients.exchange.protocol import Task, Tools
from fedfuse.train.facts import labels_of
from fedfuse.train.sides import FeatureTerm, on_sides
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work
from fedfuse.types import Teachers


@dataclass(frozen=True, slots=True)
class PrivateTerm(FeaturePredictions):
    """Predictions with prototypes, and a term on the features of labelled samples.

    It stands beside the loss of local training, once prototypes have come, and beside that of the
    private samples in distillation. Who inherits this says what it is in :meth:`told`.
    """

    def told(self, client_id: int, labels: Tensor, tools: Tools) -> tuple[FeatureTerm, Tensor]:
        """Return the term, and what it is told of samples with these labels, [N, E] float32.

        A client without prototypes may sit in a cohort of others: its term must add nothing.
        """
        raise NotImplementedError

    @property
    def adds(self) -> bool:
        """Whether the term weighs anything."""
        raise NotImplementedError

    def shows(self, student: Student, tools: Tools) -> Student:
        """Return the client with a model that returns what the term reads beside its logits."""
        return showing(student, tools)

    def train(
        self, held: Sequence[Student], tools: Tools, round_: int, *, exchanging: bool
    ) -> list[Task]:
        """Return the local epochs, with the term once prototypes have come."""
        tasks = Predictions.train(self, held, tools, round_, exchanging=exchanging)
        known = any(CAME in tools.memory(student.client_id) for student in held)
        if not (self.adds and known):
            return tasks
        return [(self.shows(s, tools), self._beside(work, s.client_id, tools)) for s, work in tasks]

    def lesson(
        self,
        tasks: list[Task],
        tools: Tools,
        round_: int,  # noqa: ARG002
        received: Teachers,  # noqa: ARG002
    ) -> list[Task]:
        """Return the steps of distillation, with the term on their private samples."""
        if not self.adds or all(work.anchor is None for _, work in tasks):
            return tasks
        made = []
        for student, work in tasks:
            anchor = (
                None if work.anchor is None else self._beside(work.anchor, student.client_id, tools)
            )
            made.append(
                (
                    self.shows(student, tools),
                    on_sides(work, tools.inputs.data.num_classes, anchor=anchor),
                )
            )
        return made

    def _beside(self, work: Work, client_id: int, tools: Tools) -> Work:
        term, told = self.told(client_id, labels_of(work.targets), tools)
        return on_sides(work, tools.inputs.data.num_classes, term, told)


def came(client_id: int, tools: Tools, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the prototypes [C, D] that came last, and which there are [C]; at first none."""
    memory, num_classes = tools.memory(client_id), tools.inputs.data.num_classes
    values = memory.get(CAME, torch.zeros(num_classes, tools.width))
    present = memory.get(PRESENT, torch.zeros(num_classes, dtype=torch.bool))
    return values.to(device), present.to(device)
