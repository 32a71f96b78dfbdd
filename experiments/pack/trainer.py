"""The trainer of a run that trains together with others: it asks, and somebody answers all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedfuse.train.joint import Call, Fit, Predict, PredictEach
from fedfuse.train.trainer import Student, Trainer
from fedfuse.train.work import Work


@dataclass(frozen=True, slots=True)
class PackTrainer:
    """A run's own trainer, whose calls are answered together with those of other runs.

    Args:
        run: The run's number.
        family: What its models are made from, in words.
        own: The trainer that it would have alone.
        ask: Asks, and returns the answer.
    """

    run: int
    family: str
    own: Trainer
    ask: Callable[[Call], Any]

    def cohorts(
        self, client_ids: Sequence[int], architectures: Sequence[str]
    ) -> list[tuple[int, ...]]:
        """Return the cohorts of the run's own trainer."""
        return self.own.cohorts(client_ids, architectures)

    def fit(self, students: Sequence[Student], works: Sequence[Work]) -> list[float]:
        """Take the students' steps, with those of other runs."""
        if not students:
            return []
        losses: list[float] = self.ask(Fit(self.run, self.family, self.own, students, works))
        return losses

    def predict(self, students: Sequence[Student], inputs: Tensor, batch_size: int) -> Tensor:
        """Query all students on the same inputs, with those of other runs."""
        call = Predict(self.run, self.family, self.own, students, inputs, batch_size)
        logits: Tensor = self.ask(call)
        return logits

    def predict_each(
        self, students: Sequence[Student], inputs: Sequence[Tensor], batch_size: int
    ) -> list[Tensor]:
        """Query each student on its own inputs, with those of other runs."""
        if not students:
            return []
        call = PredictEach(self.run, self.family, self.own, students, inputs, batch_size)
        logits: list[Tensor] = self.ask(call)
        return logits
