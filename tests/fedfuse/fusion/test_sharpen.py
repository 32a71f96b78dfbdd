"""Sharpening by hand, at the borders, and where ERA must warn."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from fedfuse import fusion
from fedfuse.errors import ParameterError
from fedfuse.fusion import ERA, Hard, Power
from fedfuse.fusion.sharpen import era, identity, power
from fedfuse.types import KnowledgeBank


def test_era_by_hand() -> None:
    # softmax(p / 0.1) of three clients' fused targets:
    # e^6 : e^3 : e^1 = 403.428793 : 20.085537 : 2.718282, sum 426.232612
    # e^10 : 1 : 1 = 22026.465795 of 22028.465795; thirds stay thirds
    probs = torch.tensor([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    expected = torch.tensor(
        [[0.946499, 0.047123, 0.006377], [0.999909, 0.0000454, 0.0000454], [1 / 3] * 3]
    )
    torch.testing.assert_close(era(probs, 0.1), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(ERA()(probs), era(probs, 0.1))


def test_power_by_hand() -> None:
    # 0.36 : 0.09 : 0.01 of 0.46; zeros stay zeros; thirds stay thirds
    probs = torch.tensor([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    expected = torch.tensor([[36 / 46, 9 / 46, 1 / 46], [1, 0, 0], [1 / 3] * 3])
    torch.testing.assert_close(power(probs, 2.0), expected)
    assert (power(probs, 2.0)[1] == probs[1]).all()
    torch.testing.assert_close(power(probs, 1.0), probs)
    assert identity(probs) is probs


def test_a_client_that_hears_itself_alone_gets_its_own_prediction_or_its_label() -> None:
    # What method=self_distillation and method=local_pseudo are; log 3 of two classes is 3/4.
    logits = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]]) * math.log(3)
    bank = KnowledgeBank(torch.arange(3), logits, torch.ones(3, dtype=torch.int64))
    parts = fusion.Uniform(), fusion.TopK(1), fusion.MeanProbabilities()
    own = fusion.Pipeline(*parts)(bank).teachers.targets
    torch.testing.assert_close(own, torch.tensor([[[0.75, 0.25]], [[0.25, 0.75]], [[0.5, 0.5]]]))
    labels = fusion.Pipeline(*parts, Hard())(bank).teachers.targets
    assert labels.tolist() == [[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]]


def test_power_does_not_underflow() -> None:
    # 0.4 ** 1000 is 0 in float32; 0.4 : 0.3 to the 1000th is 1 : 0.
    sharp = power(torch.tensor([0.4, 0.3, 0.3]), 1000.0)
    torch.testing.assert_close(sharp, torch.tensor([1.0, 0.0, 0.0]))


def test_era_flattens_many_classes_and_says_so() -> None:
    # 0.1 and 99 times 0.9/99: e^1 / (e^1 + 99 e^0.0909) = 2.718282 / 111.1... = 0.024461
    probs = torch.full((100,), 0.9 / 99)
    probs[0] = 0.1
    with pytest.warns(UserWarning, match="sharpen=power"):
        sharp = ERA()(probs)
    assert float(sharp[0]) == pytest.approx(0.0245, abs=1e-4)
    assert float(power(probs, 2.0)[0]) == pytest.approx(0.55, abs=1e-2)


def test_era_warns_once_and_only_above_twenty_classes() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        ERA()(torch.full((20,), 0.05))
        assert not caught
        for _ in range(3):
            ERA()(torch.full((21,), 1 / 21))
    assert len(caught) == 1


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "2", True, None])
def test_bad_hyperparameters_are_named(value: object) -> None:
    with pytest.raises(ParameterError, match="'temperature' parameter of ERA"):
        ERA(value)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="'exponent' parameter of Power"):
        Power(value)  # type: ignore[arg-type]
