"""What exchanges of models do alike whose clients move a shared model and one of their own at once.

All steps that other methods spend on distillation are taken before the models are sent, as FedAvg
takes them; who is taught late, because its upload was, takes them then, from the average on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clients.exchange.models import KeepsOwn, Twins, as_personal, become, take
from clients.exchange.protocol import Task, Tools
from clients.training.settings import BUDGETS
from fedfuse.exchange.models import ModelBank
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work
from fedfuse.validation import require_one_of

JOINED = "exchange/joined"
"""What a client remembers once its shared model has taken part."""


class TrainsBoth(KeepsOwn):
    """Take the steps of both models; the client's own is tested."""

    budget: str

    def train(
        self, held: Sequence[Student], tools: Tools, round_: int, *, exchanging: bool
    ) -> list[Task]:
        """Return the steps of both models; in warm-up the client's own learns alone."""
        work_plan = tools.work_plan
        client_ids = [student.client_id for student in held]
        if not exchanging:
            works = work_plan.local(client_ids, round_)
            return [(as_personal(student), work) for student, work in zip(held, works, strict=True)]
        for student in held:
            self.begin_round(student, tools)
        ahead = tools.ahead(client_ids, round_, self.budget)
        costs = [n + s for n, s in zip(work_plan.passes(client_ids), ahead, strict=True)]
        return self.together(held, work_plan.private(client_ids, "train", round_, costs), tools)

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: ModelBank
    ) -> list[Task]:
        """Take the average over; return the steps of those who have not taken them before."""
        layout = self.layout(held[0])
        for student, vector in zip(held, received.vectors(), strict=True):
            take(student, layout, vector)
            self.took(student, tools)
        held = [student for student in held if tools.taught(student.client_id)]
        client_ids = [student.client_id for student in held]
        costs = tools.due(client_ids, round_, self.budget)
        if not any(costs):
            return []
        for student in held:
            self.begin_round(student, tools)
        works = tools.work_plan.private(client_ids, "distill", round_, costs)
        return self.together(held, works, tools)

    def together(self, held: Sequence[Student], works: Sequence[Work], tools: Tools) -> list[Task]:
        """Return the steps with both models of each client."""
        raise NotImplementedError

    def begin_round(self, student: Student, tools: Tools) -> None:
        """Prepare a client's models for :meth:`together`."""

    def took(self, student: Student, tools: Tools) -> None:
        """Prepare a client whose shared model has become the average."""


class Personalises(TrainsBoth):
    """Both models have the client's architecture, and a client's own is where both begin."""

    def check(self) -> None:
        """Raise unless the settings that these exchanges have in common are allowed.

        Raises:
            ParameterError: Naming the first that is not.
        """
        name = type(self).__name__
        require_one_of(name, "budget", self.budget, BUDGETS)
        require_one_of(name, "mixed", self.mixed, ("refuse", "group"))
        require_one_of(name, "buffers", self.buffers, ("average", "own"))

    def begin_round(self, student: Student, tools: Tools) -> None:
        """Let the shared model begin where warm-up has left the client's own."""
        if JOINED not in tools.memory(student.client_id):
            assert isinstance(student.model, Twins)
            become(student.model.shared, student.model.personal)
            self.joined(student, tools)

    def took(self, student: Student, tools: Tools) -> None:
        """Remember that the shared model is the average."""
        self.joined(student, tools)

    def joined(self, student: Student, tools: Tools) -> None:
        """Remember that a client's shared model has taken part."""
        tools.memory(student.client_id)[JOINED] = torch.tensor(True)
