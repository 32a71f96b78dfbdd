"""Per-class logits: means, leaving one out, the loss; by hand and against slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.exchange.class_logits import fd_loss, leave_one_out


def test_leaving_one_out_by_hand() -> None:
    # Class 0 is owned by all three: 1, 3, 8; class 1 by the last alone: 5.
    means = torch.zeros(3, 2, 2)
    means[:, 0, 0] = torch.tensor([1.0, 3.0, 8.0])
    means[:, 1, 1] = torch.tensor([99.0, 99.0, 5.0])  # what is not owned must not count
    present = torch.tensor([[True, False], [True, False], [True, True]])
    teachers, taught = leave_one_out(means, present)
    assert teachers[:, 0, 0].tolist() == [5.5, 4.5, 2]
    assert teachers[:, 1, 1].tolist() == [5, 5, 0]
    assert taught.tolist() == [[True, True], [True, True], [True, False]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 10**6))
def test_leaving_one_out_agrees_with_a_loop(k: int, c: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(k, c, c, generator=generator)
    present = torch.rand(k, c, generator=generator) < 0.6
    teachers, taught = leave_one_out(means, present)
    for i in range(k):
        for label in range(c):
            others = [means[j, label].double() for j in range(k) if j != i and present[j, label]]
            assert bool(taught[i, label]) == bool(others)
            if others:
                expected = sum(others) / len(others)
                torch.testing.assert_close(teachers[i, label], expected.float())
    order = torch.randperm(k, generator=generator)
    moved, moved_taught = leave_one_out(means[order], present[order])
    torch.testing.assert_close(moved, teachers[order])
    assert torch.equal(moved_taught, taught[order])


def test_the_loss_by_hand() -> None:
    # softmax(log 3, 0) = (3/4, 1/4); the student is undecided: log 2 whatever the target
    # student (3/4, 1/4) too: its entropy, 0.562335
    teacher = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    taught = torch.tensor([True, False])
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [5.0, -5.0]])
    losses = fd_loss(logits, torch.tensor([0, 0, 1]), teacher, taught)
    torch.testing.assert_close(losses, torch.tensor([math.log(2), 0.562335, 0.0]))
    # At T = 2 the odds are sqrt 3 : 1 on both sides: p = 0.633975, entropy 0.656715
    soft = fd_loss(logits[1:2], torch.tensor([0]), teacher, taught, temperature=2.0)
    p = math.sqrt(3) / (1 + math.sqrt(3))
    assert soft.item() == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=1e-6)


def test_the_loss_is_bounded_below_even_for_negative_logits() -> None:
    # Raw logits as targets would reward confidence without end.
    teacher = torch.full((2, 2), -50.0)
    far = torch.tensor([[1e4, -1e4]])
    losses = fd_loss(far, torch.tensor([0]), teacher, torch.ones(2).bool())
    assert float(losses) > 0
    assert losses.isfinite().all()


def test_an_untaught_sample_has_no_gradient() -> None:
    teacher, taught = torch.randn(2, 2), torch.tensor([True, False])
    labels = torch.tensor([0, 1])

    def total(z: torch.Tensor) -> torch.Tensor:
        return fd_loss(z, labels, teacher, taught).sum()

    gradient = torch.func.grad(total)(torch.randn(2, 2))
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).any()
