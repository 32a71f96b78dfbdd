"""Clients whose private samples have teachers: logits that others made for each of them.

What came back stays beside the labels in every step on private data until the next exchange: those
that stand in distillation's place, and the next round's local training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from clients.exchange.private_steps import PrivateSteps
from clients.exchange.protocol import Task, Tools
from fedfuse.distill.taught import also_taught
from fedfuse.exchange.group_knowledge import SampleTeachers
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work
from fedfuse.validation import require_number

TAUGHT = "exchange/taught"
"""Where a client remembers the logits that came last, [N, C], a row for each private sample."""


@dataclass(frozen=True, slots=True)
class TaughtSamples(PrivateSteps):
    """Learn ``CE + alpha T**2 KL(teacher || own)`` of private samples, once a teacher has come.

    Args:
        alpha: Weight of the teacher beside the labels; 0 learns alone.
        temperature: T of both softmaxes.
    """

    alpha: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_number(type(self).__name__, "alpha", self.alpha, at_least=0)
        require_number(type(self).__name__, "temperature", self.temperature, above=0)

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: SampleTeachers
    ) -> list[Task]:
        """Keep what came back; return as many private steps as distillation would take."""
        num_classes = tools.inputs.data.num_classes
        for student, logits in zip(held, received.split("logits"), strict=True):
            memory = tools.memory(student.client_id)
            memory[TAUGHT] = logits.reshape(-1, num_classes).clone()
        return self.after(held, tools, round_)

    def beside(self, student: Student, work: Work, tools: Tools, when: tuple[int, str]) -> Task:  # noqa: ARG002
        """Return the steps with each sample's teacher beside its label."""
        memory = tools.memory(student.client_id)
        if self.alpha == 0 or TAUGHT not in memory:
            return student, work
        teacher = soft(memory[TAUGHT], self.temperature)
        return student, also_taught(work, teacher, self.alpha, self.temperature)


def soft(logits: Tensor, temperature: float) -> Tensor:
    """Return softmax(z / T), [N, C]; zeros, which teach nothing, where there are no logits.

    >>> import torch
    >>> soft(torch.tensor([[0.0, 0.0], [torch.nan, torch.nan]]), 1.0)
    tensor([[0.5000, 0.5000],
            [0.0000, 0.0000]])
    """
    return (logits / temperature).softmax(dim=1).nan_to_num(0.0)
