"""The mean of models, by hand and as a mean."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedfuse.merge.mean import weighted_average


def test_the_average_by_hand() -> None:
    states = [
        {"w": torch.tensor([[1.0, 2.0]]), "n": torch.tensor(3)},
        {"w": torch.tensor([[5.0, -2.0]]), "n": torch.tensor(6)},
    ]
    # 3/4 and 1/4: (2, 1); 3.75 rounds to 4
    mean = weighted_average(states, torch.tensor([0.75, 0.25]))
    assert mean["w"].tolist() == [[2, 1]]
    assert mean["n"].tolist() == 4
    assert mean["n"].dtype == torch.int64


def test_a_model_can_load_the_average() -> None:
    nets = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(3)]
    mean = weighted_average([net.state_dict() for net in nets], torch.ones(3) / 3)
    expected = sum(net[0].weight for net in nets) / 3
    nets[0].load_state_dict(mean)
    torch.testing.assert_close(nets[0][0].weight, expected)
    assert mean["1.num_batches_tracked"].dtype == torch.int64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.integers(0, 10**6))
def test_the_average_is_a_mean(weights: list[float], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = [{"w": torch.randn(2, 3, generator=generator)} for _ in weights]
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    mean = weighted_average(states, shares)["w"]
    expected = sum(w * s["w"].double() for w, s in zip(shares.tolist(), states, strict=True))
    torch.testing.assert_close(mean, expected.float())
    same = weighted_average([states[0]] * len(weights), shares)["w"]
    torch.testing.assert_close(same, states[0]["w"])
