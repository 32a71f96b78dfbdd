"""The ambiguity filter: by hand, at its edge, and where it could never fire."""

from __future__ import annotations

import warnings

import pytest
import torch

from fedfuse.fusion.filters import AmbiguityFilter, ambiguity, unambiguous


def test_ambiguity_is_the_l1_distance_to_ones_own_argmax() -> None:
    probs = torch.randn(3, 20, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    onehot = torch.nn.functional.one_hot(probs.argmax(-1), 7)
    torch.testing.assert_close(ambiguity(probs), (onehot - probs).abs().sum(-1))


@pytest.mark.parametrize("num_classes", [2, 100])
def test_the_range(num_classes: int) -> None:
    extremes = torch.stack([torch.eye(num_classes)[0], torch.full((num_classes,), 1 / num_classes)])
    expected = torch.tensor([[0.0, 2 * (1 - 1 / num_classes)]])
    torch.testing.assert_close(ambiguity(extremes.unsqueeze(0)), expected)


def test_a_sample_at_theta_is_dropped() -> None:
    # Ambiguities 0.5, 1 and 0.25, all exact in binary.
    probs = torch.tensor([[[0.75, 0.25], [0.5, 0.5], [0.875, 0.125]]])
    assert unambiguous(probs, theta=0.5).tolist() == [[0, 0, 1]]
    assert AmbiguityFilter(1.0)(probs).tolist() == [[1, 0, 1]]


def test_a_theta_that_never_fires_warns() -> None:
    flat = torch.full((1, 1, 10), 0.1)
    with pytest.warns(UserWarning, match="never drops"):
        assert AmbiguityFilter(1.9)(flat).tolist() == [[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert AmbiguityFilter(1.7)(flat).tolist() == [[0]]
