"""A step of a round is taken at the same rate in every arm, whatever it is spent on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from clients.training.pace import paced
from fedfuse.train.learning_rate import Rates
from fedfuse.train.trainer import Student
from tests.clients.training.test_work_plan import teachers, work_plan


class Line:
    """How far the run is, as it is told."""

    per = "step"

    def __call__(self, done: float, num_rounds: int) -> float:
        return done


RATES = Rates(Line(), 9)  # type: ignore[arg-type]


def rates(plan, works, round_, *, trained):
    student = Student(0, "net", nn.Linear(2, 3), torch.optim.SGD(nn.Linear(2, 3).parameters()))
    [(_, work)] = paced(RATES, [(student, works[0])], plan, round_, trained=trained)
    return list(work.rates)


@pytest.mark.parametrize("budget", ["optimiser_steps", "samples"])
def test_arms_that_spend_alike_take_their_steps_at_the_same_rates(budget):
    plan = work_plan(budget=budget)
    lesson = plan.distillation([0, 1], 4, teachers(None))
    local = rates(plan, plan.local([0, 1], 4), 4, trained=False)
    alone = rates(plan, plan.budget_matched([0, 1], 4), 4, trained=True)
    taught = rates(plan, lesson, 4, trained=True)
    ahead = plan.passes([0])[0] + plan.spare([0], 4)[0]
    at_once = rates(plan, plan.private([0], "train", 4, [ahead]), 4, trained=False)
    assert local[0] == 3.0
    assert local == sorted(local)
    assert local[-1] < alone[0] == taught[0] < 4
    assert max(alone[-1], taught[-1], at_once[-1]) < 4
    if budget == "optimiser_steps":  # with samples, a step sees more of them in a lesson
        assert alone == taught
        assert [*local, *alone] == pytest.approx(at_once)


def test_who_takes_the_steps_of_all_stays_within_the_round():
    plan = work_plan()
    found = rates(plan, plan.private([0], "train", 1, [500]), 1, trained=False)
    assert found[0] == 0
    assert found[-1] == pytest.approx(499 / 500)


def test_a_lesson_of_which_nothing_counts_leaves_its_private_steps_their_rates():
    plan = work_plan()
    nothing = torch.zeros(2, 10)
    [work, _] = plan.distillation([0, 1], 1, teachers(nothing))
    assert work.schedule.num_steps == 0
    found = rates(plan, [replace(work)], 1, trained=True)
    assert len(found) == work.taken.schedule.num_steps > 0
