"""Exchanges without distillation: what came back goes beside the labels of private samples."""

from __future__ import annotations

from collections.abc import Sequence

from clients.exchange.protocol import Exchange, Task, Tools
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work


class PrivateSteps(Exchange):
    """All steps are on private data: local training's, and as many as distillation would take.

    What a client has from its last exchange goes into both (:meth:`beside`), so it also holds in
    the local training of the round after.
    """

    def beside(
        self,
        student: Student,
        work: Work,
        tools: Tools,  # noqa: ARG002
        when: tuple[int, str],  # noqa: ARG002
    ) -> Task:
        """Return private steps with what the client remembers of its last exchange, if anything.

        Args:
            student: The client.
            work: Its steps on private data, as training alone takes them.
            tools: What an exchange may use.
            when: The round, and ``train`` before sharing or ``distill`` after it.
        """
        return student, work

    def train(
        self,
        held: Sequence[Student],
        tools: Tools,
        round_: int,
        *,
        exchanging: bool,  # noqa: ARG002
    ) -> list[Task]:
        """Return the local epochs, with what came back last."""
        works = tools.work_plan.local([student.client_id for student in held], round_)
        return self._beside_each(held, works, tools, (round_, "train"))

    def after(self, held: Sequence[Student], tools: Tools, round_: int) -> list[Task]:
        """Return as many private steps as distillation would take, with what came back."""
        works = tools.work_plan.budget_matched([student.client_id for student in held], round_)
        return self._beside_each(held, works, tools, (round_, "distill"))

    def _beside_each(
        self, held: Sequence[Student], works: Sequence[Work], tools: Tools, when: tuple[int, str]
    ) -> list[Task]:
        return [
            self.beside(student, work, tools, when)
            for student, work in zip(held, works, strict=True)
        ]
