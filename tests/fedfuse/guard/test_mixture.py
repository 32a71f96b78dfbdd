"""Two models' answers as one, and which mixture validation data chooses."""

from __future__ import annotations

import math

import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.guard import Choice, Ensemble, Paired, Sequential, Validation, mixed, shares
from fedfuse.guard.mixture import loss


def pairs(local, fused, labels, weight=None) -> Paired:
    ours, theirs = (torch.tensor(p, dtype=torch.float64).log() for p in (local, fused))
    weight = torch.ones(len(labels)) if weight is None else torch.tensor(weight)
    return Paired(ours, theirs, torch.tensor(labels), weight.double())


def test_a_half_is_the_geometric_mean_and_the_ends_are_the_models_to_the_bit():
    local, fused = torch.randn(5, 4), torch.randn(5, 4)
    assert mixed(local, fused, 0.0) is local
    assert mixed(local, fused, 1.0) is fused
    half = (local.softmax(1) * fused.softmax(1)).sqrt()
    torch.testing.assert_close(mixed(local, fused, 0.5).exp(), half / half.sum(1, keepdim=True))


def test_a_mixture_loses_no_more_than_the_mean_of_both_on_any_sample():
    draw = torch.Generator().manual_seed(0)
    local, fused = 3 * torch.randn(200, 5, generator=draw), 3 * torch.randn(200, 5, generator=draw)
    for share in (0.25, 0.5, 0.75):
        of = -mixed(local, fused, share)
        bound = -(1 - share) * local.log_softmax(1) - share * fused.log_softmax(1)
        assert (of <= bound + 1e-5).all()


def test_the_share_with_the_smallest_loss_by_hand():
    # One model is sure and right on the first, the other on the second: a half has both.
    both = pairs([[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.1, 0.9]], [0, 1])
    assert shares(both) == 0.5
    assert loss(both, 0.5) == pytest.approx(-math.log(0.75))
    # Where only the second sample counts, the model that knows it.
    assert (
        shares(pairs([[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.1, 0.9]], [0, 1], [0.0, 1.0])) == 1
    )
    assert shares(pairs([[0.9, 0.1]], [[0.5, 0.5]], [0])) == 0
    # Equal models, and no data at all, leave it at a half.
    assert shares(pairs([[0.9, 0.1]], [[0.9, 0.1]], [0])) == 0.5
    assert (
        shares(
            Paired(
                *[torch.zeros(0, 2, dtype=torch.float64)] * 2,
                torch.zeros(0).long(),
                torch.zeros(0).double(),
            )
        )
        == 0.5
    )


def test_an_ensemble_answers_the_balanced_question_by_balanced_weights_where_it_can():
    local, fused = [[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5], [0.1, 0.9]]
    own = pairs(local, fused, [0, 0, 1])
    balanced = pairs(local, fused, [0, 0, 1], [0.05, 0.05, 0.9])
    first, second = Ensemble()(own, balanced, 10)
    assert (first, second) == (Choice(0.25), Choice(1.0))
    one = pairs(local[:1], fused[:1], [0])  # nothing held back of the other class
    assert Ensemble()(one, one, 10) == (Choice(0.0), Choice(0.0))


@pytest.mark.parametrize("grid", [[], [1.5], [math.nan], [True], "half", None])
def test_a_grid_that_is_none_is_refused(grid):
    with pytest.raises(ParameterError, match="grid"):
        Ensemble(grid)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan, math.inf, True, "0.05", None])
def test_an_alpha_that_is_no_error_rate_is_refused(alpha):
    with pytest.raises(ParameterError, match="'alpha' parameter of Sequential"):
        Sequential(alpha)


@pytest.mark.parametrize("fewest", [0, True, 2.5])
def test_fewest_is_a_count(fewest):
    with pytest.raises(ParameterError, match="fewest"):
        Validation(fewest)


def test_what_validation_refuses():
    guard = Validation()
    assert guard.refuses(0.5, 0.6, 4)
    assert not guard.refuses(0.5, 0.6, 3)
    assert not guard.refuses(0.6, 0.6, 30)
    assert not guard.refuses(None, 0.6, 30)
