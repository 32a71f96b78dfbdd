"""Weights from scores, and what they say."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.fusion.weights import effective_neighbours, masked_softmax, self_weight


def test_masked_softmax_by_hand() -> None:
    # Row 0: e^0 : e^log2 : e^log3 = 1 : 2 : 3, all neighbours: sixths.
    # Row 1: the same scores without the middle: 1 : 3.
    # Row 2: only itself.
    scores = torch.tensor([[0.0, math.log(2), math.log(3)]] * 3)
    near = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    expected = torch.tensor([[1 / 6, 2 / 6, 3 / 6], [1 / 4, 0, 3 / 4], [0, 0, 1]])
    weights = masked_softmax(scores, near)
    torch.testing.assert_close(weights, expected)
    assert torch.equal(weights == 0, ~near)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_clients=st.integers(1, 12),
    scale=st.sampled_from([0.0, 1.0, 1e3, 1e6, 1e30, 3e38]),
)
def test_rows_sum_to_one_and_are_zero_outside(seed: int, num_clients: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = scale * (2 * torch.rand(num_clients, num_clients, generator=generator) - 1)
    near = torch.rand(scores.shape, generator=generator) < 0.5
    near.fill_diagonal_(True)
    weights = masked_softmax(scores, near)
    assert (weights >= 0).all()
    assert (weights[~near] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(num_clients))


def test_infinite_scores_make_no_nan() -> None:
    inf = torch.inf
    scores = torch.tensor([[-inf, -inf, -inf], [inf, inf, 0.0], [-inf, 0.0, inf]])
    expected = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0], [0, 0, 1]])
    torch.testing.assert_close(masked_softmax(scores, torch.ones(3, 3).bool()), expected)
    assert (masked_softmax(scores, torch.zeros(3, 3).bool()) == 0).all()


def test_equal_scores_of_any_size_give_bitwise_equal_weights() -> None:
    everyone = torch.ones(7, 7).bool()
    plain = masked_softmax(torch.zeros(7, 7), everyone)
    for value in (-0.0, 3.0, -1e6):
        assert torch.equal(masked_softmax(torch.full((7, 7), value), everyone), plain)


def test_diagnostics_by_hand() -> None:
    # H(1/2, 1/4, 1/4) = 1/2 log 2 + 1/2 log 4 = 3/2 log 2, and e to that is 2^(3/2) = 2.828427.
    weights = torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(effective_neighbours(weights), torch.tensor([2.828427, 1, 3]))
    torch.testing.assert_close(self_weight(weights), torch.tensor([0.5, 1, 1 / 3]))
