"""KD++'s term by hand, and what it asks of a feature."""

from __future__ import annotations

import math

import pytest
import torch

from fedfuse.distill.norm_and_direction import NormAndDirection, norm_and_direction, told_of
from fedfuse.errors import ParameterError

E = torch.tensor([[1.0, 0.0]])


def test_H3_unit_examples() -> None:
    features = torch.tensor([[3.0, 4.0], [3.0, 4.0], [12.0, 0.0], [0.0, 0.0]])
    norms = torch.tensor([10.0, 2.0, 10.0, 0.0])
    got = norm_and_direction(features, E.expand(4, 2), norms)
    torch.testing.assert_close(got, torch.tensor([0.7, 0.4, 0.0, 1.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("length", "pulled"), [(12.0, False), (10.5, False), (4.0, True)])
def test_H3_nothing_pulls_along_the_direction_once_long_enough(length, pulled) -> None:
    aside = torch.tensor([[length, 0.0], [length, 1.0]], requires_grad=True)
    norm_and_direction(aside, E.expand(2, 2), torch.tensor([10.0, 10.0])).sum().backward()
    assert aside.grad is not None
    # Straight along e nothing is left to gain; beside it, direction is.
    assert (abs(float(aside.grad[0, 0])) > 1e-6) == pulled
    assert abs(float(aside.grad[1, 1])) > 1e-6 or pulled
    assert aside.grad.isfinite().all()


def test_H3_no_feature_at_all_has_a_gradient() -> None:
    nothing = torch.zeros(1, 2, requires_grad=True)
    norm_and_direction(nothing, E, torch.tensor([2.0])).sum().backward()
    assert nothing.grad is not None
    assert nothing.grad.tolist() == [[-0.5, 0.0]]


def test_H3_a_class_without_a_prototype_adds_nothing() -> None:
    prototypes = torch.tensor([[10.0, 0.0], [5.0, 5.0], [0.0, 0.0]])
    told = told_of(prototypes, torch.tensor([True, False, True]), torch.tensor([0, 1, 2, 0]))
    features = torch.tensor([[3.0, 4.0]]).expand(4, 2)
    got = NormAndDirection(lam=2)(features, told)
    torch.testing.assert_close(got, torch.tensor([1.4, 0.0, 0.0, 1.4]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lam", [-1, math.nan, math.inf, True])
def test_H3_refuses(lam) -> None:
    with pytest.raises(ParameterError, match="'lam' parameter"):
        NormAndDirection(lam)
