"""Who takes part: samplers keep their fraction, favour what they say, and repeat themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedfuse.errors import FedfuseError, ParameterError
from fedfuse.participation import BySize, Everybody, HeldIn, Participants, RoundRobin, Uniform
from fedfuse.rng import Streams

SIZES = (10, 20, 30, 40, 50, 60, 70, 720)


@pytest.mark.parametrize("sampler", [Uniform(0.5), BySize(0.5), RoundRobin(0.5)])
def test_a_sampler_takes_its_fraction_and_repeats_itself(sampler):
    participants = Participants(sampler, SIZES, Streams(0))
    rounds = [participants.ids(round_) for round_ in range(1, 30)]
    assert {len(ids) for ids in rounds} == {4}
    assert rounds == [participants.ids(round_) for round_ in range(1, 30)]
    assert len({tuple(ids) for ids in rounds}) > 1


def test_everybody_is_everybody():
    assert Participants(Everybody(), SIZES, Streams(0)).ids(1) == list(range(8))


def test_who_is_held_out_never_takes_part_and_trains_alone() -> None:
    participants = Participants(HeldIn(3), SIZES, Streams(0))
    assert {tuple(participants.ids(round_)) for round_ in range(1, 9)} == {(0, 1, 2)}
    assert participants.ids(1, alone=True) == list(range(8))
    others = Participants(Uniform(0.5), SIZES, Streams(0))
    assert others.ids(1, alone=True) == others.ids(1), "the baseline of others rests with them"
    for wrong in (0, True, 1.5):
        with pytest.raises(ParameterError, match="clients"):
            HeldIn(wrong)  # type: ignore[arg-type]


def test_by_size_draws_in_proportion_to_size():
    participants = Participants(BySize(0.1), SIZES, Streams(0))
    first = [participants.ids(round_)[0] for round_ in range(1, 2001)]
    share = np.bincount(first, minlength=8) / 2000
    np.testing.assert_allclose(share, np.array(SIZES) / 1000, atol=0.03)


def test_round_robin_asks_each_client_equally_often_even_where_turns_do_not_divide():
    participants = Participants(RoundRobin(0.4), SIZES[:5], Streams(0))
    asked = np.concatenate([participants.ids(round_) for round_ in range(1, 6)])
    assert np.bincount(asked).tolist() == [2] * 5


@pytest.mark.parametrize("fraction", [0, -1, 1.5, float("nan"), True])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(ParameterError, match="fraction"):
        Uniform(fraction)


def test_by_size_refuses_sizes_that_the_server_does_not_know():
    with pytest.raises(FedfuseError, match="sizes"):
        Participants(BySize(0.5), (0, 0), Streams(0)).ids(1)


@pytest.mark.parametrize("ids", [[], [1, 0], [0, 0], [8], [-1]])
def test_a_sampler_that_breaks_its_promise_is_named(ids):
    participants = Participants(lambda *_: torch.tensor(ids), SIZES, Streams(0))
    with pytest.raises(FedfuseError, match="broke its promise"):
        participants.ids(1)
