"""How far learned weights are from the two ends in which they collapse."""

import pytest
import torch

from fedfuse.fusion.weights import distances


@pytest.mark.parametrize(
    ("weights", "uniform", "identity"),
    [
        (torch.full((5, 5), 0.2), 0.0, 0.8),
        (torch.eye(5), 0.8, 0.0),
        (torch.tensor([[0.5, 0.5], [0.25, 0.75]]), 0.125, 0.375),
    ],
)
def test_distances_by_hand(weights, uniform, identity):
    got = distances(weights)
    assert got["weights_from_uniform"] == pytest.approx(uniform)
    assert got["weights_from_identity"] == pytest.approx(identity)
