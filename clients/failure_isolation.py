"""Take a step with a cohort of clients, and find out whose failure it is when it fails."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from clients.exchange.protocol import Task
from clients.state.state import OptimizerFactory
from clients.state.states import ClientStates
from fedfuse.errors import FedfuseError
from fedfuse.failure import Failure
from fedfuse.train.divergence import diverged
from fedfuse.train.trainer import Trainer
from fedfuse.user_code import brief, frames
from fedfuse.wire.messages import SPENT

Step = Callable[[Sequence[int]], None]
"""Do something with a cohort."""
Spent = dict[int, dict[str, float]]
"""What clients have spent, by client and metric."""


@dataclass(frozen=True, slots=True)
class Alone:
    """What it takes to try a failed cohort again, client by client.

    Args:
        states: The clients' states.
        arm: The arm they play in.
        make_optimizer: Parameters to optimiser.
    """

    states: ClientStates
    arm: str
    make_optimizer: OptimizerFactory


@dataclass(frozen=True, slots=True)
class Attempt:
    """Take steps of one phase.

    Args:
        round: The round.
        phase: The phase.
        threads: torch threads per client.
        device: Where the clients train.
    """

    round: int
    phase: str
    threads: int
    device: torch.device

    def __call__(self, cohort: Sequence[int], step: Step, alone: Alone | None) -> list[Failure]:
        """Take a step; return the clients that failed instead of raising.

        Of several clients at once nobody knows who failed, so all of them have, unless ``alone``
        allows to set the cohort back and to let its clients take the step one by one.
        """
        if alone is None or len(cohort) == 1:
            return self._try(cohort, step)
        marked = alone.states.mark(alone.arm, cohort)
        failed = self._try(cohort, step)
        if failed:
            alone.states.rewind(cohort, marked, alone.make_optimizer)
            failed = [f for client_id in cohort for f in self._try((client_id,), step)]
        return failed

    def _try(self, cohort: Sequence[int], step: Step) -> list[Failure]:
        """Give a cohort its threads and random numbers, and take the step."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        # The works seed torch's global generators, for layers that draw from them.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            try:
                step(cohort)
            except Exception as raised:
                error = _understood(raised)
                mistake = isinstance(error, FedfuseError)
                told, own = _describe(error)
                return [
                    Failure(
                        client_id=client_id,
                        round=self.round,
                        phase=self.phase,
                        error=told,
                        traceback=traceback.format_exc(),
                        is_mistake=mistake,
                        own=own,
                    )
                    for client_id in cohort
                ]
        return []


def _understood(error: Exception) -> Exception:
    """Return the exception, or a mistake that a person can mend where it is known to be one.

    Batches of one sample are looked for before training, but not where the data is elsewhere, and
    not those of shadow models.
    """
    if not (isinstance(error, ValueError) and "more than 1 value per channel" in str(error)):
        return error
    return FedfuseError(
        "A batch of one sample came up, and the model's batch norm needs two",
        got=brief(error),
        next_step="Change client.batch_size or client.distill_batch_size by one, or choose a model "
        "without batch norm.",
    )


def _describe(error: Exception) -> tuple[str, str]:
    """Return what an exception says in one line, and the frames of the user's own code in it."""
    if isinstance(error, FedfuseError):
        return error.message, error.frames
    return brief(error), frames(error)


def take_steps(trainer: Trainer, tasks: Sequence[Task], round_: int) -> Spent:
    """Let students take their steps, and refuse a loss that is not a number any more.

    Returns:
        Per metric of ``SPENT`` what each client has spent; those that took no steps are missing.
    """
    students, works = [task[0] for task in tasks], [task[1].taken for task in tasks]
    losses = trainer.fit(students, works)
    for student, work, loss in zip(students, works, losses, strict=True):
        if work.schedule.num_steps and not math.isfinite(loss):
            what = f"Training of client {student.client_id} diverged in round {round_}"
            raise diverged(what, loss, work, student.optimizer)
    spent: Spent = {}
    for student, work in zip(students, works, strict=True):
        told = spent.setdefault(student.client_id, dict.fromkeys(SPENT, 0.0))
        told["steps"] += work.schedule.num_steps
        told["samples"] += work.num_samples
    return spent
