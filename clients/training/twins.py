"""Beside each client the same client as it would be had it learned alone: its local twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clients.state.state import ClientState, OptimizerFactory
from clients.state.states import ClientStates
from clients.training.pretrain import Beginning
from clients.training.work_plan import WorkPlan
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work

Task = tuple[Student, Work]
"""Whose model takes which steps."""


@dataclass(frozen=True, slots=True)
class LocalTwins:
    """Write down the steps of the clients' local twins.

    They are those that the arm of local training takes: the same initial weights, samples, order
    and random streams, so that with the loop trainer a twin is to the bit what its client is in
    that arm. It is the client's own business: nothing of it is shared, and the model that is fused
    never learns of it. It costs a second local training and a second model in memory.

    Args:
        states: Where clients are remembered; a twin is remembered with its client.
        beginning: What a client is before the first round.
        work_plan: Writes down the steps of a phase.
        make_optimizer: Parameters to optimiser.
        pretrains: Whether clients of the local arm begin with pre-training.
    """

    states: ClientStates
    beginning: Beginning
    work_plan: WorkPlan
    make_optimizer: OptimizerFactory
    pretrains: bool

    def begin(self, client_id: int, *, new: bool) -> ClientState:
        """Return a twin as it enters the first round.

        Args:
            client_id: Whose.
            new: False if what it remembers replaces it next.
        """
        if new and self.pretrains:
            return ClientState(self.beginning.pretrained(client_id)[0])
        return ClientState(self.beginning.model(client_id))

    def of(self, students: Sequence[Student]) -> list[Student]:
        """Return the twins of clients that are at work."""
        return [self._of(student) for student in students]

    def local(self, held: Sequence[Student], round_: int) -> list[Task]:
        """Return the steps before sharing."""
        works = self.work_plan.local([student.client_id for student in held], round_)
        return list(zip(self.of(held), works, strict=True))

    def instead(self, held: Sequence[Student], round_: int) -> list[Task]:
        """Return the steps in distillation's place; none with ``budget=rounds``."""
        if self.work_plan.plan.budget == "rounds" or not held:
            return []
        works = self.work_plan.budget_matched([student.client_id for student in held], round_)
        return list(zip(self.of(held), works, strict=True))

    def _of(self, student: Student) -> Student:
        twin = self.states.twin(student.client_id)
        optimizer = twin.optimizer("main", self.make_optimizer)
        return Student(student.client_id, student.architecture, twin.model, optimizer)
