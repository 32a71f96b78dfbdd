"""Server and clients see the same public samples in a round, and others in the next."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.rng import Streams
from fedfuse.select import All, ClassBalanced, PublicRounds, RandomSubset
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
