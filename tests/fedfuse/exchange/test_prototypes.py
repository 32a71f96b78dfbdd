"""FedProto by hand and against a slow loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.errors import KnowledgeError
from fedfuse.exchange.prototypes import (
    class_prototypes,
    mean_prototypes,
    prototype_loss,
    prototype_scores,
)


def test_prototypes_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 8.0]])
    prototypes, counts = class_prototypes(features, torch.tensor([2, 2, 0]), num_classes=3)
    assert prototypes.tolist() == [[0, 8], [0, 0], [2, 2]]
    assert counts.tolist() == [1, 0, 2]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10**6), st.booleans())
def test_the_mean_over_owners_agrees_with_a_loop(k: int, seed: int, by_count: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(k, 3, 2, generator=generator)
    counts = torch.randint(0, 4, (k, 3), generator=generator)
    means, present = mean_prototypes(prototypes, counts, by_count=by_count)
    for label in range(3):
        owners = [i for i in range(k) if counts[i, label] > 0]
        assert bool(present[label]) == bool(owners)
        weights = [float(counts[i, label]) if by_count else 1.0 for i in owners]
        expected = sum(
            w * prototypes[i, label].double() for w, i in zip(weights, owners, strict=True)
        )
        if owners:
            torch.testing.assert_close(means[label], (expected / sum(weights)).float())
        else:
            assert (means[label] == 0).all()


def test_pooled_means_are_count_weighted() -> None:
    features, labels = torch.randn(30, 4), torch.arange(30) % 3
    parts = [
        class_prototypes(features[part], labels[part], 3) for part in torch.arange(30).split(7)
    ]
    prototypes = torch.stack([p for p, _ in parts])
    counts = torch.stack([c for _, c in parts])
    pooled, _ = class_prototypes(features, labels, 3)
    torch.testing.assert_close(mean_prototypes(prototypes, counts, by_count=True)[0], pooled)


def test_the_loss_by_hand() -> None:
    prototypes, present = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([True, False])
    features = torch.tensor([[1.0, 3.0], [9.0, 9.0]])
    losses = prototype_loss(features, torch.tensor([0, 1]), prototypes, present, lam=0.1)
    torch.testing.assert_close(losses, torch.tensor([0.5, 0.0]))


def test_the_nearest_prototype() -> None:
    prototypes = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 0.0]])
    features = torch.tensor([[1.9, 0.0], [2.0, 0.0], [9.0, 9.0]])
    everyone = torch.ones(3).bool()
    assert prototype_scores(features, prototypes, everyone).argmax(1).tolist() == [2, 2, 1]
    # without the third, 2.0 lies in the middle: the lower class
    present = torch.tensor([True, True, False])
    assert prototype_scores(features, prototypes, present).argmax(1).tolist() == [0, 0, 1]
    with pytest.raises(KnowledgeError, match="No class has a prototype"):
        prototype_scores(features, prototypes, torch.zeros(3).bool())
