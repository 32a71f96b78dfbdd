"""Server and clients see the same public samples in a round, and others in the next."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedfuse.augment import MixDistribution, PartialMixup
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.rng import Streams
from fedfuse.select import All, ClassBalanced, PublicRounds, PublicSamples, RandomSubset
from fedfuse.types import PublicSet

LABELLED = PublicSet(np.zeros((20, 1, 2, 2), np.uint8), np.arange(20) % 4, "test")
UNLABELLED = PublicSet(np.zeros((20, 1, 2, 2), np.uint8), None, "noise")


def test_both_sides_draw_the_same_samples_and_each_round_others():
    server, client = (PublicRounds(RandomSubset(8), LABELLED, Streams(3)) for _ in range(2))
    assert torch.equal(server.index(2), client.index(2))
    assert not torch.equal(server.index(2), server.index(3))
    assert server.size(2) == 8


def test_labels_follow_the_samples():
    rounds = PublicRounds(ClassBalanced(8), LABELLED, Streams(0))
    assert torch.equal(rounds.labels(1), rounds.index(1) % 4)
    assert torch.bincount(rounds.labels(1)).tolist() == [2, 2, 2, 2]
    assert PublicRounds(All(), UNLABELLED, Streams(0)).labels(1) is None


def test_a_selection_that_needs_labels_is_refused_without_them():
    with pytest.raises(ConfigError, match=r"ClassBalanced needs labels.*noise"):
        PublicRounds(ClassBalanced(8), UNLABELLED, Streams(0))


@pytest.mark.parametrize(
    "index", [[3, 1], [0, 0], [-1, 2], [5, 20], []], ids=["unsorted", "twice", "-1", "P", "none"]
)
def test_a_broken_promise_is_named(index):
    def broken(round, num_public, labels, generator):  # noqa: A002
        return torch.tensor(index, dtype=torch.int64)

    with pytest.raises(FedfuseError, match="broken broke its promise in round 4"):
        PublicRounds(broken, LABELLED, Streams(0)).index(4)


INPUTS = torch.randn(20, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def sides(augment, select=None):
    """Return a server's and a client's samples of the same run."""
    select = RandomSubset(8) if select is None else select
    rounds = [PublicRounds(select, LABELLED, Streams(3), augment) for _ in range(2)]
    return rounds[0], [PublicSamples(one, lambda: INPUTS) for one in rounds]


def test_W7_both_sides_make_the_same_samples_and_each_round_others():
    rounds, (server, client) = sides(PartialMixup(keep=0), All())
    assert torch.equal(server.asked(2), client.asked(2))
    assert server.asked(2) is server.learned(2)
    assert not torch.equal(server.asked(2), server.asked(3))
    assert not torch.equal(server.asked(2), INPUTS)
    assert rounds.labels(2) is None, "of mixed samples nobody knows the labels"
    assert rounds.changes_answers


def test_W7_one_that_keeps_all_as_it_was_keeps_the_labels():
    rounds, (server, client) = sides(PartialMixup(keep=1))
    assert torch.equal(server.asked(1), INPUTS[rounds.index(1)])
    assert torch.equal(client.learned(1), INPUTS[rounds.index(1)])
    assert torch.equal(rounds.labels(1), rounds.index(1) % 4)


def test_W7_for_the_lesson_only_the_answers_are_as_ever():
    rounds, (server, client) = sides(MixDistribution(share=1))
    assert not rounds.changes_answers
    for side in (server, client):
        assert torch.equal(side.asked(2), INPUTS[rounds.index(2)])
        assert not torch.equal(side.learned(2), side.asked(2))
    assert torch.equal(server.learned(2), client.learned(2))
    assert rounds.labels(2) is not None
    both, (asked, _) = sides(MixDistribution(share=1, consistency=False))
    assert both.changes_answers
    assert torch.equal(asked.asked(2), server.learned(2))


def test_W7_nothing_is_copied_where_nothing_changes():
    _, (server, _) = sides(None, All())
    assert server.asked(1) is INPUTS
    assert server.learned(4) is INPUTS
