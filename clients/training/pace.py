"""At which share of the optimiser's learning rate clients take the steps of a round."""

from __future__ import annotations

from collections.abc import Sequence

from clients.training.twins import Task
from clients.training.work_plan import WorkPlan
from fedfuse.train.learning_rate import Rates


def paced(
    rates: Rates, tasks: Sequence[Task], work_plan: WorkPlan, round_: int, *, trained: bool
) -> list[Task]:
    """Return the tasks of one phase of a round with the rates of their steps.

    A round is as long as local training and distillation cost its client together, so the same
    step of a round is taken at the same rate in every arm, whatever it is spent on.

    Args:
        rates: The schedule.
        tasks: The tasks.
        work_plan: What says what a client's round costs.
        round_: The round, from 1.
        trained: Whether local training is over, and this is what comes after it.
    """
    made = []
    for student, work in ((student, work.taken) for student, work in tasks):
        [local] = work_plan.passes([student.client_id])
        [rest] = work_plan.spare([student.client_id], round_)
        samples = work_plan.plan.budget == "samples"
        cost = work.num_samples if samples else work.schedule.num_steps
        begin = local if trained else 0
        # Who takes more steps than a round has for others spreads them over it.
        whole = max(local + rest, begin + cost, 1)
        span = round_ - 1 + begin / whole, round_ - 1 + (begin + cost) / whole
        made.append((student, rates.over(work, *span)))
    return made
