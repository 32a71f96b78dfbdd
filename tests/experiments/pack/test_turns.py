"""Runs that take turns: in step, one at a time, and alone with their failures."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch

from experiments.pack.turns import PackedRun, take_turns
from fedfuse.train.joint import Call, Fit, Outcome, Predict

NOBODY = torch.empty(0)


def fit(run):
    return Fit(run.number, "", None, (), ())


def predict(run):
    return Predict(run.number, "", None, (), NOBODY, 1)


def finish(runs, answer=lambda calls: [Outcome(call.run) for call in calls]):
    for _ in take_turns(runs, answer):
        pass
    return [run.result for run in runs]


def test_each_gets_the_answer_to_its_own_call():
    def task(run):
        return run.ask(fit(run)), run.ask(predict(run))

    assert finish([PackedRun(n, task) for n in (3, 1, 2)]) == [(3, 3), (1, 1), (2, 2)]


def test_who_is_behind_catches_up_so_that_phases_meet():
    asked = []

    def task(first):
        def rounds(run):
            for round_ in range(1, 4):
                run.place = (-1, round_, 0)
                run.ask(fit(run))
                run.ask(predict(run))
                if round_ >= first:  # some distil from the first round on, others later
                    run.place = (-1, round_, 2)
                    run.ask(fit(run))

        return rounds

    def answer(calls):
        asked.append((type(calls[0]).__name__, [call.run for call in calls]))
        return [Outcome() for _ in calls]

    finish([PackedRun(0, task(1)), PackedRun(1, task(3)), PackedRun(2, task(2))], answer)
    everybody = [0, 1, 2]
    assert [runs for kind, runs in asked if kind == "Predict"] == [everybody] * 3
    assert [runs for kind, runs in asked if kind == "Fit"] == [
        everybody,
        [0],
        everybody,
        [0, 2],
        everybody,
        everybody,
    ]


def test_only_one_works_at_a_time_and_has_random_numbers_of_its_own():
    busy = threading.Lock()

    def task(run):
        drawn = []
        for _ in range(3):
            assert busy.acquire(blocking=False)
            drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))  # noqa: NPY002
            busy.release()
            run.ask(fit(run))
        return drawn

    def seeded(numbers):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        return finish([PackedRun(n, task) for n in numbers])

    assert seeded(range(3)) == seeded([0]) * 3


def test_a_failure_stays_with_its_run():
    def task(run):
        if run.number == 1:
            raise RuntimeError("mine")
        return run.ask(fit(run))

    def answer(calls):
        return [
            Outcome(error=ValueError("yours")) if call.run == 2 else Outcome("fine")
            for call in calls
        ]

    runs = [PackedRun(n, task) for n in range(4)]
    assert finish(runs, answer) == ["fine", None, None, "fine"]
    assert [str(run.error) for run in runs] == ["None", "mine", "yours", "None"]


def test_who_waits_goes_on_when_it_is_over():
    done = []

    def slow(run):
        run.ask(fit(run))
        done.append("slow")

    def waits(run):
        run.wait(lambda: bool(done))
        done.append("waited")

    finish([PackedRun(0, waits), PackedRun(1, slow)])
    assert done == ["slow", "waited"]


def test_an_interruption_reaches_every_run_where_it_waits():
    ends = []

    def task(run):
        try:
            run.ask(fit(run))
        except KeyboardInterrupt:
            ends.append(run.number)
            raise

    def answer(calls: list[Call]):
        raise KeyboardInterrupt

    runs = [PackedRun(n, task) for n in range(3)]
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        finish(runs, answer)
    assert ends == [0, 1, 2]
    assert threading.active_count() == before


def test_leaving_early_interrupts_and_starts_nobody_new():
    turns = take_turns([PackedRun(n, lambda run: run.ask(fit(run))) for n in range(3)], None)
    next(turns)
    before = threading.active_count()
    turns.close()
    assert threading.active_count() == before - 1
