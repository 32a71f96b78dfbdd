"""Several runs' calls answered as one: each run's numbers are those of the run alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from experiments.benchmarks.batched import Count
from fedfuse.distill import KL
from fedfuse.errors import FedfuseError
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.train.batched import BatchedTrainer, LoopFallbackWarning
from fedfuse.train.joint import Fit, Joint, Predict, PredictEach
from fedfuse.train.rows import as_rows
from fedfuse.train.trainer import LoopTrainer, Student
from fedfuse.train.work import Work, schedule

SHAPE, CLASSES, BATCH = (1, 12, 12), 4, 4
SIZES = {0: (21, 5), 1: (9, 13, 2), 2: (8, 8)}
"""Samples of the clients of three runs."""


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def adam(parameters, lr=1e-3):
    # eps keeps the quotient of two tiny moments from amplifying rounding.
    return torch.optim.Adam(parameters, lr=lr, eps=1e-3, fused=True)


def students(run, make=mlp, optimizer=adam):
    made = []
    for client_id in range(len(SIZES[run])):
        torch.manual_seed(100 * run + client_id)
        model = make(SHAPE, CLASSES)
        made.append(Student(client_id, "net", model, optimizer(model.parameters())))
    return made


def private(run, round_=0, steps=None):
    rng = torch.Generator().manual_seed(run)
    sizes = list(SIZES[run])
    inputs = torch.split(torch.randn(sum(sizes), *SHAPE, generator=rng), sizes)
    labels = torch.split(torch.randint(0, CLASSES, (sum(sizes),), generator=rng), sizes)
    order = torch.Generator().manual_seed(10 * run + round_)
    return [
        Work(x, y, cross_entropy, schedule(len(y), BATCH, steps or -(-len(y) // BATCH), order))
        for x, y in zip(inputs, labels, strict=True)
    ]


def taught(run, anchored):
    rng = torch.Generator().manual_seed(50 + run)
    public = torch.randn(10, *SHAPE, generator=rng)
    targets = torch.randn(len(SIZES[run]), 10, CLASSES, generator=rng).softmax(2)
    anchors = private(run, steps=3) if anchored else [None] * len(targets)
    return [
        Work(
            public,
            own,
            KL(),
            schedule(10, BATCH, 3, rng),
            anchor=anchor,
            anchor_weight=0.5 if anchored else 0.0,
        )
        for own, anchor in zip(targets, anchors, strict=True)
    ]


@pytest.fixture
def asked(monkeypatch):
    """Return how many students each training was for."""
    sizes = []
    fit = BatchedTrainer.fit

    def counting(self, students, works):
        sizes.append(len(students))
        return fit(self, students, works)

    monkeypatch.setattr(BatchedTrainer, "fit", counting)
    return sizes


def values(outcomes):
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    return [outcome.value for outcome in outcomes]


def assert_same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip(mine.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
            kept, expected = mine.optimizer.state[a], other.optimizer.state[b]
            for slot, value in expected.items():
                torch.testing.assert_close(
                    torch.as_tensor(kept[slot]), torch.as_tensor(value), atol=1e-4, rtol=1e-3
                )


@pytest.mark.parametrize("make", [mlp, lenet5])
@pytest.mark.parametrize("anchored", [False, True])
def test_runs_of_unequal_sizes_learn_as_alone(make, anchored, asked):
    make = partial(make)
    ours = {run: students(run, make) for run in SIZES}
    theirs = {run: students(run, make) for run in SIZES}
    joint, own = Joint(), BatchedTrainer()
    phases = [private, partial(taught, anchored=anchored), partial(private, round_=1)]
    for phase in phases:
        calls = [Fit(run, "net", own, ours[run], phase(run)) for run in SIZES]
        losses = values(joint(calls))
        for run in SIZES:
            expected = LoopTrainer().fit(theirs[run], phase(run))
            assert losses[run] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert asked == [7, 7, 7]  # one training a phase for all clients of all runs
    for run in SIZES:
        assert_same(ours[run], theirs[run])


def test_a_run_that_ends_leaves_the_others_where_they_are(asked):
    ours, theirs = ({run: students(run) for run in SIZES} for _ in range(2))
    joint, own = Joint(), BatchedTrainer()
    for runs in ((0, 1, 2), (0, 2), (2,)):
        values(joint([Fit(run, "net", own, ours[run], private(run)) for run in runs]))
        for run in runs:
            LoopTrainer().fit(theirs[run], private(run))
    assert asked == [7, 4, 2]
    for run in SIZES:
        assert_same(ours[run], theirs[run])


def test_predictions_on_common_and_on_different_pools():
    ours = {run: students(run, lenet5) for run in SIZES}
    one, other = torch.randn(2, 9, *SHAPE)
    pools = {0: one, 1: other, 2: one.clone()}
    joint, own = Joint(), BatchedTrainer()
    calls = [Predict(run, "net", own, ours[run], pools[run], 4) for run in SIZES]
    for run, logits in zip(SIZES, values(joint(calls)), strict=True):
        expected = LoopTrainer().predict(ours[run], pools[run], 4)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    rows = {run: [work.inputs for work in private(run)] for run in SIZES}
    calls = [PredictEach(run, "net", own, ours[run], rows[run], 4) for run in SIZES]
    for run, logits in zip(SIZES, values(joint(calls)), strict=True):
        expected = LoopTrainer().predict_each(ours[run], rows[run], 4)
        for mine, theirs in zip(logits, expected, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_only_what_means_the_same_goes_together(asked):
    own = BatchedTrainer()
    fast = partial(adam, lr=1e-2)
    calls = [
        Fit(0, "net", own, students(0), private(0)),
        Fit(1, "net", own, students(1, optimizer=fast), private(1)),  # another step size
        Fit(2, "other", own, students(2), private(2)),  # "net" may mean another network there
        Fit(3, "net", own, students(0, lenet5), private(0)),  # and is another one here
        Fit(4, "net", own, students(2), taught(2, anchored=False)),  # another loss
        Fit(5, "net", own, students(0), taught(0, anchored=True)),
        Fit(6, "net", own, students(1), private(1)),  # as the first
        Fit(7, "net", LoopTrainer(), students(1), private(1)),  # one client after the other
    ]
    theirs = [students(1, optimizer=fast), students(2)]
    LoopTrainer().fit(theirs[0], private(1))
    LoopTrainer().fit(theirs[1], taught(2, anchored=False))
    values(Joint()(calls))
    assert sorted(asked) == [2, 2, 2, 2, 3, 5]
    assert_same(calls[1].students, theirs[0])
    assert_same(calls[4].students, theirs[1])


def with_dropout(shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, num_classes))


def test_models_that_draw_random_numbers_draw_those_of_their_run_alone(asked):
    ours, theirs = ({run: students(run, with_dropout) for run in SIZES} for _ in range(2))
    works = {
        run: [Work(w.inputs, w.targets, w.loss, w.schedule, entropy=run) for w in private(run)]
        for run in SIZES
    }
    values(Joint()([Fit(run, "net", BatchedTrainer(), ours[run], works[run]) for run in SIZES]))
    assert asked == [2, 3, 2]
    for run in SIZES:
        BatchedTrainer().fit(theirs[run], works[run])
        assert_same(ours[run], theirs[run])


def picky(logits, labels):
    """Refuse the batches that hold a certain label, some steps into the training."""
    if (labels == CLASSES - 1).any():
        raise RuntimeError("a label that nobody likes")
    return F.cross_entropy(logits, labels.clamp_min(0), reduction="none")


def test_a_call_that_fails_fails_alone_and_nobody_moves_twice():
    def works(run, labels):
        order = schedule(8, BATCH, 2, torch.Generator().manual_seed(run))
        return [Work(w.inputs[:1].expand(8, *SHAPE), labels, picky, order) for w in private(run)]

    fine = torch.zeros(8, dtype=torch.int64)
    bad = fine.clone()
    bad[works(1, fine)[0].schedule.order[-1]] = CLASSES - 1  # in the second of two steps
    ours, theirs = ({run: students(run) for run in SIZES} for _ in range(2))
    calls = [
        Fit(run, "net", BatchedTrainer(), ours[run], works(run, bad if run == 1 else fine))
        for run in SIZES
    ]
    outcomes = Joint()(calls)
    assert str(outcomes[1].error) == "a label that nobody likes"
    for run in (0, 2):
        assert outcomes[run].error is None
        LoopTrainer().fit(theirs[run], works(run, fine))
        assert_same(ours[run], theirs[run])
    for mine, other in zip(ours[1], theirs[1], strict=True):  # all steps or none
        for a, b in zip(mine.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_diverged_client_is_nobody_elses_business():
    ours, theirs = ({run: students(run) for run in SIZES} for _ in range(2))
    works = {run: private(run) for run in SIZES}
    works[1][0].inputs.fill_(float("inf"))
    losses = values(Joint()([Fit(r, "net", BatchedTrainer(), ours[r], works[r]) for r in SIZES]))
    assert not torch.tensor(losses[1][0]).isfinite()
    assert torch.tensor([*losses[0], *losses[1][1:], *losses[2]]).isfinite().all()
    for run in (0, 2):
        LoopTrainer().fit(theirs[run], private(run))
        assert_same(ours[run], theirs[run])


def with_statistics(shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, num_classes))


def test_a_model_that_cannot_be_batched_falls_back_or_is_refused_with_its_layer():
    calls = [
        Fit(run, "net", BatchedTrainer(), students(run, with_statistics), private(run))
        for run in (0, 2)
    ]
    for outcome in Joint()(calls):
        assert isinstance(outcome.error, FedfuseError)
        assert "layer '1' (BatchNorm1d) keeps running statistics" in str(outcome.error)
    ours, theirs = students(2, with_statistics), students(2, with_statistics)
    trainer = BatchedTrainer(fallback=LoopTrainer())
    with pytest.warns(LoopFallbackWarning, match="BatchNorm1d"):
        values(Joint()([Fit(2, "net", trainer, ours, private(2))]))
    LoopTrainer().fit(theirs, private(2))
    assert_same(ours, theirs)


def test_a_step_of_many_runs_takes_the_operations_of_a_step_of_one():
    """What a GPU waits for: with 12 runs, a twelfth of the launches."""

    def operations(num_runs):
        ours = [students(0, lenet5) for _ in range(num_runs)]
        joint, found = Joint(), []
        for steps in (1, 1, 3):  # the first builds what the others find
            calls = []
            for run in range(num_runs):
                x, y = torch.randn(BATCH, *SHAPE), torch.zeros(BATCH, dtype=torch.int64)
                plan = schedule(BATCH, BATCH, steps, torch.Generator())
                works = [Work(x, y, cross_entropy, plan) for _ in ours[run]]
                calls.append(Fit(run, "net", BatchedTrainer(), ours[run], works))
            with Count() as counter:
                values(joint(calls))
            found.append(counter.total)
        return (found[2] - found[1]) // 2

    assert operations(12) == operations(1)


def test_who_trains_in_another_order_or_company_is_moved_at_once():
    ours = [student for run in SIZES for student in students(run, lenet5)]
    parameters = [list(student.model.parameters()) for student in ours]
    before = [[p.detach().clone() for p in own] for own in parameters]
    as_rows(parameters)
    for company in (parameters[::-1], parameters[1:4], parameters):
        with Count() as counter:
            as_rows(company)
        assert counter.total <= 2  # not one per tensor
    for own, was in zip(parameters, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(own, was, strict=True))


def test_phases_of_unequal_and_of_equal_steps_find_the_same_matrix():
    ours = students(1)
    trainer = BatchedTrainer()
    trainer.fit(ours, private(1))  # 3, 4 and 1 steps
    places = [next(student.model.parameters()).data_ptr() for student in ours]
    for works in (taught(1, anchored=False), private(1, round_=1)):
        trainer.fit(ours, works)
        assert [next(student.model.parameters()).data_ptr() for student in ours] == places


def test_pools_are_compared_once_by_what_they_hold(monkeypatch):
    joint, compared = Joint(), []
    equal = torch.equal
    monkeypatch.setattr(torch, "equal", lambda a, b: compared.append(1) or equal(a, b))
    asked = [torch.zeros(2), torch.zeros(2), torch.ones(2), torch.zeros(3)]
    pools, which = joint._pools(asked[:3])
    assert (len(pools), which[0] == which[1] != which[2]) == (2, True)
    assert [torch.equal(pools[i], pool) for i, pool in zip(which, asked, strict=False)] == [
        True
    ] * 3
    compared.clear()
    joint._pools(asked[:3])
    assert not compared
    assert joint._pools(asked[3:])[1] == [0]
    del asked, pools
    assert not len(joint._seen)  # it keeps nobody's samples
