"""Per-class logits: means, leaving one out, the loss; by hand and against slow loops."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.exchange.class_logits import leave_one_out


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
