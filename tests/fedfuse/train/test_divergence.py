"""What a loss that is no number any more is blamed on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedfuse.distill import KL
from fedfuse.train.divergence import diverged, suspect
from fedfuse.train.work import Schedule, Work

PLAIN = Work(
    inputs=torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
    targets=torch.zeros(4, dtype=torch.int64),
    loss=torch.nn.functional.cross_entropy,
    schedule=Schedule(torch.arange(4), (4,)),
)
SGD = torch.optim.SGD([torch.ones(1)], lr=0.5)

CAUSES = [
    (PLAIN, "Lower optimizer.lr, which is 0.5."),
    (replace(PLAIN, inputs=PLAIN.inputs * 1e6), "scale the features"),
    (replace(PLAIN, inputs=PLAIN.inputs.log()), "hold NaN or infinite values"),
    (replace(PLAIN, inputs=PLAIN.inputs / 0), "hold NaN or infinite values"),
    (replace(PLAIN, targets=torch.full((4, 2), 1e30)), "The teacher's numbers reach 1e+30"),
    (replace(PLAIN, targets=torch.full((4, 2), 5.0)), "Lower optimizer.lr"),
    (replace(PLAIN, anchor=PLAIN, anchor_weight=1e5), "client.private_weight, which is 100000"),
    (replace(PLAIN, anchor=PLAIN, anchor_weight=1.0), "Lower optimizer.lr"),
    (replace(PLAIN, anchor=replace(PLAIN, inputs=PLAIN.inputs * 1e6)), "scale the features"),
    (replace(PLAIN, loss=KL(temperature=0.01)), "Raise temperature, which is 0.01."),
]


@pytest.mark.parametrize(("work", "says"), CAUSES)
def test_the_learning_rate_is_blamed_where_nothing_else_stands_out(work, says):
    assert says in suspect(work, SGD)
    assert ("optimizer.lr" in says) == ("optimizer.lr" in suspect(work, SGD))


def test_the_error_says_what_diverged():
    told = str(diverged("Training of client 3 diverged in round 2", float("nan"), PLAIN, SGD))
    assert told == (
        "Training of client 3 diverged in round 2: got loss nan, allowed: a finite loss. "
        "Lower optimizer.lr, which is 0.5."
    )
