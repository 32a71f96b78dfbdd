"""The loop trainer against steps written out by hand, and the schedule's promises."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fedfuse.train import loop
from fedfuse.train.loop import fit, predict
from fedfuse.train.work import Schedule, Work, schedule, steps_per_epoch


def cross_entropy(logits, targets):
    return F.cross_entropy(logits, targets, reduction="none")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 50), batch=st.integers(1, 60), steps=st.integers(0, 40))
def test_every_sample_is_seen_once_per_epoch_and_no_step_straddles_epochs(n, batch, steps):
    plan = schedule(n, batch, steps, generator())
    assert plan.num_steps == steps
    assert sum(plan.sizes) == len(plan.order)
    per_epoch = steps_per_epoch(n, batch)
    for start in range(0, steps - per_epoch + 1, per_epoch):
        before = sum(plan.sizes[:start])
        size = sum(plan.sizes[start : start + per_epoch])
        assert sorted(plan.order[before : before + size].tolist()) == list(range(n))


def test_fit_takes_the_steps_that_plain_pytorch_takes():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    twin = copy.deepcopy(model)
    inputs, labels = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    plan = Schedule(torch.tensor([4, 0, 2, 1, 3]), (2, 2, 1))
    loss = fit(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        Work(inputs, labels, cross_entropy, plan),
    )
    optimizer, losses = torch.optim.SGD(twin.parameters(), lr=0.1), []
    for batch in ([4, 0], [2, 1], [3]):
        optimizer.zero_grad()
        expected = F.cross_entropy(twin(inputs[batch]), labels[batch])
        expected.backward()
        optimizer.step()
        losses.append(float(expected.detach()))
    torch.testing.assert_close(model.weight, twin.weight)
    assert loss == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_weighted_samples_and_the_anchor_enter_the_loss_as_written():
    # One step of SGD on a one-weight model y = w x with loss (w x - t)^2 per sample.
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)

    def square(outputs, targets):
        return (outputs - targets).square().sum(1)

    both = Schedule(torch.tensor([0, 1]), (2,))
    anchor = Work(
        torch.tensor([[3.0]]), torch.tensor([[0.0]]), square, Schedule(both.order[:1], (1,))
    )
    work = Work(
        inputs=torch.tensor([[1.0], [5.0]]),
        targets=torch.zeros(2, 1),
        loss=square,
        schedule=both,
        sample_weight=torch.tensor([1.0, 0.0]),
        anchor=anchor,
        anchor_weight=0.5,
    )
    # Weighted mean loss: (w*1)^2 = 4; anchor 0.5 * (w*3)^2 = 18; gradient 2w + 0.5*18w = 11w = 22.
    loss = fit(model, torch.optim.SGD(model.parameters(), lr=0.01), work)
    assert loss == pytest.approx(22.0)
    assert model.weight.item() == pytest.approx(2.0 - 0.22)


def test_a_batch_in_which_no_sample_counts_changes_nothing():
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    work = Work(
        inputs=torch.randn(4, 2),
        targets=torch.tensor([0, 1, 0, 1]),
        loss=cross_entropy,
        schedule=Schedule(torch.arange(4), (4,)),
        sample_weight=torch.zeros(4),
    )
    assert fit(model, torch.optim.SGD(model.parameters(), lr=1.0), work) == 0.0
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_block_in_which_samples_are_copied_does_not_change_the_result(monkeypatch):
    results = []
    for block in (1, 7, 4096):
        monkeypatch.setattr(loop, "_BLOCK", block)
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        inputs, labels = torch.randn(20, 4), torch.randint(0, 3, (20,))
        plan = schedule(20, 6, 9, generator())
        fit(
            model,
            torch.optim.Adam(model.parameters()),
            Work(inputs, labels, cross_entropy, plan),
        )
        results.append(model.weight.detach().clone())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_no_steps_no_loss():
    model = nn.Linear(1, 2)
    work = Work(
        torch.ones(1, 1), torch.zeros(1).long(), cross_entropy, schedule(1, 1, 0, generator())
    )
    assert torch.isnan(torch.tensor(fit(model, torch.optim.SGD(model.parameters()), work)))


def test_predict_is_in_eval_mode_and_independent_of_the_batch_size():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    inputs = torch.randn(10, 4)
    first, second = predict(model, inputs, 3), predict(model, inputs, 10)
    torch.testing.assert_close(first, second)
    assert first.shape == (10, 3)
    assert not first.requires_grad
