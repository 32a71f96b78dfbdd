"""Steps without wrappers are torch's steps, and nothing loads the compiler."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from fedfuse.train.optimizers import stepper

MAKERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p),
    "adagrad": torch.optim.Adagrad,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_step_is_bitwise_the_optimisers_own(make):
    model = nn.Linear(4, 3)
    twin = copy.deepcopy(model)
    ours, theirs = make(model.parameters()), make(twin.parameters())
    step = stepper(ours)
    for _ in range(3):
        x = torch.randn(5, 4)
        for net in (model, twin):
            net.zero_grad()
            net(x).square().mean().backward()
        step()
        theirs.step()
    assert torch.equal(model.weight, twin.weight)


def test_what_moves_for_the_first_time_beside_others_begins_from_no_momentum():
    """An exchange that replaces a last layer drops its moments alone; one kernel moves all."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    twin = copy.deepcopy(model)
    ours = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    theirs = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, foreach=False)
    step = stepper(ours)
    for _ in range(2):
        x = torch.randn(5, 4)
        for net, optimizer, take in ((model, ours, step), (twin, theirs, theirs.step)):
            net.zero_grad()
            net(x).square().mean().backward()
            take()
            for parameter in net[1].parameters():
                optimizer.state.pop(parameter)
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("where", ["pre", "post", "scheduler", "global"])
def test_hooks_and_schedulers_are_not_passed_over(where):
    calls = []
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    handle = None
    if where == "scheduler":
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
    elif where == "global":
        home = sys.modules[torch.optim.Optimizer.__module__]
        handle = home.register_optimizer_step_post_hook(lambda *_: calls.append(1))
    else:
        getattr(optimizer, f"register_step_{where}_hook")(lambda *_: calls.append(1))
    try:
        step = stepper(optimizer)
        step()
    finally:
        if handle is not None:
            handle.remove()
    assert weight.item() == pytest.approx(0.9)
    if where == "scheduler":
        assert step == optimizer.step
    else:
        assert calls == [1]


def test_training_does_not_import_torchs_compiler():
    code = """
import sys, torch
from fedfuse.train.loop import fit
from fedfuse.train.optimizers import spare_compiler
from fedfuse.train.work import Work, schedule
spare_compiler()
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.Adam(model.parameters(), fused=True)
work = Work(torch.ones(4, 2), torch.zeros(4).long(),
            lambda z, y: torch.nn.functional.cross_entropy(z, y, reduction="none"),
            schedule(4, 2, 2, torch.Generator()))
fit(model, optimizer, work)
optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules, "the compiler was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
