"""Averages of models and proximal terms: by hand, their gradients, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedfuse.errors import KnowledgeError, ModelError
from fedfuse.exchange.weights import ditto_term, proximal_term, weighted_average


def test_the_average_by_hand() -> None:
    states = [
        {"w": torch.tensor([[1.0, 2.0]]), "n": torch.tensor(3)},
        {"w": torch.tensor([[5.0, -2.0]]), "n": torch.tensor(6)},
    ]
    # 3/4 and 1/4: (2, 1); 3.75 rounds to 4
    mean = weighted_average(states, torch.tensor([300, 100]).float())
    assert mean["w"].tolist() == [[2, 1]]
    assert mean["n"].tolist() == 4
    assert mean["n"].dtype == torch.int64


def test_a_model_can_load_the_average() -> None:
    nets = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(3)]
    mean = weighted_average([net.state_dict() for net in nets], torch.ones(3))
    expected = sum(net[0].weight for net in nets) / 3
    nets[0].load_state_dict(mean)
    torch.testing.assert_close(nets[0][0].weight, expected)
    assert mean["1.num_batches_tracked"].dtype == torch.int64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.integers(0, 10**6))
def test_the_average_is_a_mean(weights: list[float], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = [{"w": torch.randn(2, 3, generator=generator)} for _ in weights]
    mean = weighted_average(states, torch.tensor(weights))["w"]
    total = sum(weights)
    expected = sum(w / total * s["w"].double() for w, s in zip(weights, states, strict=True))
    torch.testing.assert_close(mean, expected.float())
    same = weighted_average([states[0]] * len(weights), torch.tensor(weights))["w"]
    torch.testing.assert_close(same, states[0]["w"])


DIFFERENT = [
    ({"a": torch.zeros(2)}, "no 'b' at position 1"),
    ({"a": torch.zeros(2), "b": torch.zeros(1), "c": torch.zeros(1)}, "'c' at position 1"),
    ({"a": torch.zeros(3), "b": torch.zeros(1)}, r"'a' of shape \[3\] at position 1"),
    ({"a": torch.zeros(2, 1), "b": torch.zeros(1)}, r"'a' of shape \[2, 1\] at position 1"),
]


@pytest.mark.parametrize(("other", "complaint"), DIFFERENT)
def test_mixed_architectures_are_refused(other: dict[str, torch.Tensor], complaint: str) -> None:
    first = {"a": torch.zeros(2), "b": torch.zeros(1)}
    with pytest.raises(ModelError, match=complaint):
        weighted_average([first, other], torch.ones(2))


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_weights_that_cannot_be_normalised_are_refused(weights: list[float]) -> None:
    states = [{"w": torch.zeros(1)}] * 2
    with pytest.raises(KnowledgeError, match="cannot be averaged"):
        weighted_average(states, torch.tensor(weights))
    with pytest.raises(KnowledgeError, match="cannot be averaged"):
        weighted_average([], torch.ones(0))


@pytest.mark.parametrize("term", [proximal_term, ditto_term])
def test_the_terms_by_hand(term) -> None:
    # 0.5 / 2 * ((3-1)^2 + (0-1)^2 + (2-2)^2) = 1.25; the gradient is 0.5 (w - w_t)
    here = {"w": torch.tensor([3.0, 0.0]), "b": torch.tensor([2.0])}
    there = {"w": torch.tensor([1.0, 1.0]), "b": torch.tensor([2.0])}
    assert term(here, there, 0.5).item() == pytest.approx(1.25)
    gradient = torch.func.grad(lambda w: term(w, there, 0.5))(here)
    assert gradient["w"].tolist() == [1, -0.5]
    assert gradient["b"].tolist() == [0]
    assert term(here, there, 0.0).item() == 0
