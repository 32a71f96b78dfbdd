"""Who takes the optimiser steps: one client after the other, or many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fedfuse.train.loop import fit, predict
from fedfuse.train.precision import Precision
from fedfuse.train.work import Work


@dataclass(frozen=True, slots=True)
class Student:
    """One client's model and the optimiser that moves it.

    Args:
        client_id: Whose model it is.
        architecture: Its architecture; equal names mean equal architectures.
        model: The model.
        optimizer: An optimiser over the model's parameters.
    """

    client_id: int
    architecture: str
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def forget(self, parameters: Iterable[nn.Parameter]) -> None:
        """Drop the optimiser's moments of parameters that are replaced."""
        for parameter in parameters:
            self.optimizer.state.pop(parameter, None)


class Trainer(Protocol):
    """Train and query a cohort of clients.

    Every trainer takes exactly the steps that each client's :class:`~fedfuse.train.work.Work`
    writes down, so trainers differ in speed and, by floating-point rounding, in the last digits.
    """

    def cohorts(
        self, client_ids: Sequence[int], architectures: Sequence[str]
    ) -> list[tuple[int, ...]]:
        """Return which clients are handed over together, in the order of ``client_ids``."""
        ...

    def fit(self, students: Sequence[Student], works: Sequence[Work]) -> list[float]:
        """Take each student's steps; return each one's mean loss (NaN where there are none)."""
        ...

    def predict(self, students: Sequence[Student], inputs: Tensor, batch_size: int) -> Tensor:
        """Return the logits float32 [k, N, C] of all students on the same inputs [N, ...]."""
        ...

    def predict_each(
        self, students: Sequence[Student], inputs: Sequence[Tensor], batch_size: int
    ) -> list[Tensor]:
        """Return each student's logits float32 [N_i, C] on inputs of its own [N_i, ...]."""
        ...


@dataclass(frozen=True, slots=True)
class LoopTrainer:
    """One client after the other: the CPU's choice.

    Args:
        precision: Number format of the passes through the model.
        on_step: Called after each step with the steps that the client has taken and their number.
        clip_norm: Largest norm that the gradient of a client's step keeps; None for any.
    """

    precision: Precision = Precision.FP32
    on_step: Callable[[int, int], None] | None = None
    clip_norm: float | None = None

    def cohorts(
        self,
        client_ids: Sequence[int],
        architectures: Sequence[str],  # noqa: ARG002 - one client has one architecture
    ) -> list[tuple[int, ...]]:
        """Hand over each client alone."""
        return [(client_id,) for client_id in client_ids]

    def fit(self, students: Sequence[Student], works: Sequence[Work]) -> list[float]:
        """Take each student's steps in turn."""
        return [
            fit(
                student.model,
                student.optimizer,
                work,
                self.precision,
                self.on_step,
                self.clip_norm,
            )
            for student, work in zip(students, works, strict=True)
        ]

    def predict(self, students: Sequence[Student], inputs: Tensor, batch_size: int) -> Tensor:
        """Query each student in turn."""
        return torch.stack(
            [predict(student.model, inputs, batch_size, self.precision) for student in students]
        )

    def predict_each(
        self, students: Sequence[Student], inputs: Sequence[Tensor], batch_size: int
    ) -> list[Tensor]:
        """Query each student in turn, on its own inputs."""
        return [
            predict(student.model, own, batch_size, self.precision)
            for student, own in zip(students, inputs, strict=True)
        ]
