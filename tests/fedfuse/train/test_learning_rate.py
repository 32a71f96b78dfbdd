"""Rates by how far a run is, and gradients clipped: torch's own numbers, in every trainer."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from clients.exchange.models import SideBySide, Twins
from fedfuse.distill import KL
from fedfuse.models.mlp import mlp
from fedfuse.train import batched
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.joint import Fit, Joint
from fedfuse.train.learning_rate import Constant, Cosine, Rates, Step, share
from fedfuse.train.loop import fit
from fedfuse.train.trainer import LoopTrainer
from fedfuse.user_code import PartError
from tests.fedfuse.train.test_batched import (
    CLASSES,
    OPTIMIZERS,
    SHAPE,
    assert_same,
    private,
    students,
    taught,
    twins,
)


def rated(works, begin=0.0):
    """Give each client rates of its own, from one round to the next but one."""
    rates = [Rates(Cosine(warmup=0.5, per="step"), 3), Rates(Step(per="step"), 3)]
    return [rates[i % 2].over(work, begin, begin + 1) for i, work in enumerate(works)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Cosine(), partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=8)),
        (Step(), partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[4, 6])),
        (
            Constant(warmup=3),
            partial(torch.optim.lr_scheduler.LinearLR, start_factor=0.25, total_iters=3),
        ),
    ],
)
def test_schedules_are_those_of_torch_stepped_once_a_round(ours, theirs):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs(optimizer)
    for done in range(8):
        assert share(ours, done, 8) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_a_warm_up_comes_before_the_cosine_and_goes_on_into_it():
    shares = [Cosine(warmup=2, final=0.1)(done, 6) for done in (0, 1, 2, 4)]
    assert shares == pytest.approx([1 / 3, 2 / 3, 1.0, 0.55])
    at_end = Cosine(final=0.1, per="step")(6 - 1e-9, 6)
    assert at_end == pytest.approx(0.1)


def test_rates_change_by_round_or_by_step():
    work = private()[0]  # six steps
    by_round = Rates(Cosine(), 4).over(work, 1.0, 1.5).rates
    assert by_round == (Cosine()(1, 4),) * 6
    by_step = Rates(Cosine(per="step"), 4).over(work, 1.0, 1.5).rates
    assert by_step == tuple(Cosine()(1 + step / 12, 4) for step in range(6))


@pytest.mark.parametrize("told", [float("nan"), -1, "half", None, True, float("inf")])
def test_a_schedule_of_ones_own_returns_a_share(told):
    with pytest.raises(PartError, match="returned no share of the learning rate"):
        share(lambda done, num_rounds: told, 0, 1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rate_of_a_step_is_the_optimisers_own_rate_for_it(optimizer):
    ours, theirs = twins(mlp, OPTIMIZERS[optimizer], 1)
    [work] = rated(private()[:1])
    LoopTrainer().fit(ours, [work])
    for student in theirs:
        whole = student.optimizer.param_groups[0]["lr"]
        begin = 0
        for size, rate in zip(work.schedule.sizes, work.rates, strict=True):
            order = work.schedule.order[begin : begin + size]
            begin += size
            student.optimizer.param_groups[0]["lr"] = whole * rate
            one = replace(work, schedule=replace(work.schedule, order=order, sizes=(size,)))
            fit(student.model, student.optimizer, replace(one, rates=None))
        assert ours[0].optimizer.param_groups[0]["lr"] == whole  # it is put back
    for a, b in zip(ours[0].model.parameters(), theirs[0].model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_many_clients_at_once_take_steps_at_the_rates_of_the_loop(optimizer, clip_norm):
    ours, theirs = twins(mlp, OPTIMIZERS[optimizer])
    trainer, loop = BatchedTrainer(clip_norm=clip_norm), LoopTrainer(clip_norm=clip_norm)
    for works in (
        rated(private(0)),
        rated(taught(KL(), weighted=True, anchored=True), 1.0),
        private(1),
    ):
        assert trainer.fit(ours, works) == pytest.approx(loop.fit(theirs, works), rel=1e-3)
    assert_same(ours, theirs)


def test_rates_travel_into_recorded_steps_and_are_bitwise_the_same(monkeypatch):
    works = [rated(private(r, sizes=(40, 40, 22)), r) for r in range(3)]

    def learned():
        ours, trainer = students(mlp, OPTIMIZERS["adamw"]), BatchedTrainer(clip_norm=0.5)
        losses = [trainer.fit(ours, each) for each in works]
        return losses, [p.detach() for s in ours for p in s.model.parameters()]

    expected, recorded = learned(), []
    monkeypatch.setattr(batched, "record_on", lambda _: lambda f: recorded.append(f) or f)
    losses, parameters = learned()
    assert recorded
    assert losses == expected[0]
    assert all(torch.equal(a, b) for a, b in zip(parameters, expected[1], strict=True))


def test_packed_runs_keep_rates_and_clipping_of_their_own():
    alone, together = twins(mlp, OPTIMIZERS["momentum"])
    own = BatchedTrainer(clip_norm=0.3)
    works = rated(private())
    expected = LoopTrainer(clip_norm=0.3).fit(alone, works)
    calls = [Fit(run, "net", own, [together[run]], [works[run]]) for run in range(3)]
    found = [outcome.value[0] for outcome in Joint()(calls)]
    assert found == pytest.approx(expected, rel=1e-3)
    assert_same(together, alone)


def test_a_gradient_is_clipped_for_each_client_by_itself():
    """The worked number: SGD at rate 1 moves a client by its gradient, at most by the bound."""
    works = private(sizes=(4, 4), batch=4)
    works[1] = replace(works[1], inputs=1e-3 * works[1].inputs)  # a small gradient
    sgd = partial(torch.optim.SGD, lr=1.0)
    linear = partial(mlp, depth=0)
    bound = 0.1
    for trainer in (LoopTrainer(clip_norm=bound), BatchedTrainer(clip_norm=bound)):
        ours, free = twins(linear, sgd, 2)
        before = [copy.deepcopy(s.model) for s in ours]
        trainer.fit(ours, works)
        LoopTrainer().fit(free, works)
        moved = [_moved(s.model, old) for s, old in zip(ours, before, strict=True)]
        freely = [_moved(s.model, old) for s, old in zip(free, before, strict=True)]
        assert freely[0].norm() > bound
        torch.testing.assert_close(moved[0], bound * freely[0] / freely[0].norm())
        assert moved[1].norm() <= bound * 1.001
        shortest = min(1.0, bound / float(freely[1].norm()))
        torch.testing.assert_close(moved[1], shortest * freely[1])


def _moved(model, before):
    pairs = zip(model.parameters(), before.parameters(), strict=True)
    return torch.cat([(a - b).detach().flatten() for a, b in pairs])


def test_two_models_side_by_side_are_clipped_as_if_each_were_alone():
    torch.manual_seed(0)
    both, [work] = Twins(mlp(SHAPE, CLASSES)), private(sizes=(4,), batch=4)
    alone = copy.deepcopy(both.personal)
    loss = work.loss
    twice = replace(
        work, loss=lambda z, y: loss(z.chunk(2, 1)[0], y) + 5 * loss(z.chunk(2, 1)[1], y)
    )
    fit(SideBySide(both), torch.optim.SGD(both.parameters(), lr=1.0), twice, clip_norm=0.1)
    fit(alone, torch.optim.SGD(alone.parameters(), lr=1.0), work, clip_norm=0.1)
    for a, b in zip(both.personal.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b)
