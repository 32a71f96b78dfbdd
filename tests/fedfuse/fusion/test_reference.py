"""Reference accuracy, KTA-like scores and the controls, by hand and by property."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.errors import KnowledgeError
from fedfuse.fusion import DataSize, KnFu, Uniform
from fedfuse.fusion.controls import Random, Shuffled, pair_uniform, shuffle_sources
from fedfuse.fusion.reference import (
    KTA,
    ReferenceAccuracy,
    prediction_similarity,
    reference_accuracy,
)
from fedfuse.testing.fusion import example_bank
from fedfuse.types import KnowledgeBank

LABELS = torch.tensor([0, 1])
# Client 0 is right twice, client 1 once, client 2 never.
LOGITS = torch.tensor([[[2.0, 0], [0, 2]], [[2, 0], [2, 0]], [[0, 2], [2, 0]]])
BANK = KnowledgeBank(torch.arange(3), LOGITS, torch.tensor([1, 1, 1]))


def test_accuracy_by_hand() -> None:
    expected = torch.tensor([3 / 4, 2 / 4, 1 / 4])
    torch.testing.assert_close(reference_accuracy(LOGITS, LABELS), expected)
    mask = torch.tensor([[True, True], [False, True], [False, False]])
    expected = torch.tensor([3 / 4, 1 / 3, 1 / 2])
    torch.testing.assert_close(reference_accuracy(LOGITS, LABELS, mask), expected)


def test_reference_accuracy_by_hand() -> None:
    weights = ReferenceAccuracy()(BANK, LABELS).softmax(dim=1)
    torch.testing.assert_close(weights, torch.tensor([[1 / 2, 1 / 3, 1 / 6]] * 3))
    weights = ReferenceAccuracy(beta=2)(BANK, LABELS).softmax(dim=1)
    torch.testing.assert_close(weights, torch.tensor([[9 / 14, 4 / 14, 1 / 14]] * 3))
    scores = ReferenceAccuracy(4, "exponential")(BANK, LABELS)
    torch.testing.assert_close(scores, torch.tensor([[3.0, 2.0, 1.0]] * 3))


def test_similarity_by_hand() -> None:
    probs = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [0, 1]], [[0.6, 0.4], [0.6, 0.4]]])
    # (1 + 0) / 2; 1.2 / sqrt(2 * 1.04); (0.6 + 0.4) / sqrt(2 * 1.04)
    expected = torch.tensor([[1, 0.5, 0.832050], [0.5, 1, 0.693375], [0.832050, 0.693375, 1]])
    torch.testing.assert_close(prediction_similarity(probs), expected)
    # Clients 0 and 1 share only the first sample, on which they agree; 2 shares none with 1.
    mask = torch.tensor([[True, True], [True, False], [False, True]])
    expected = torch.tensor([[1, 1, 0.832050], [1, 1, 0], [0.832050, 0, 1]])
    torch.testing.assert_close(prediction_similarity(probs, mask), expected)


def test_kta_by_hand() -> None:
    probs = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    bank = KnowledgeBank(torch.arange(2), probs.log().unsqueeze(1), torch.tensor([1, 1]))
    # cos = 0.32 / 0.68 = 8/17; accuracies 2/3 and 1/3.
    scores = KTA(beta=17, gamma=2)(bank, torch.tensor([0]))
    likeness = torch.tensor([[17.0, 8], [8, 17]])
    expected = likeness + 2 * torch.tensor([2 / 3, 1 / 3]).log()
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("scorer", [ReferenceAccuracy(), KTA()])
def test_labels_are_needed_and_asked_for(scorer: ReferenceAccuracy | KTA) -> None:
    assert scorer.needs_labels
    with pytest.raises(KnowledgeError, match="labels of the public set"):
        scorer(BANK, None)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40), num_clients=st.integers(1, 12))
def test_shuffling_keeps_each_rows_scores_and_the_diagonal(seed: int, num_clients: int) -> None:
    generator = torch.Generator().manual_seed(seed % 1000)
    scores = torch.randn(num_clients, num_clients, generator=generator)
    ids = torch.randperm(1000, generator=generator)[:num_clients].sort().values
    mixed = shuffle_sources(scores, ids, seed)
    assert torch.equal(mixed.diagonal(), scores.diagonal())
    assert torch.equal(mixed.sort(dim=1).values, scores.sort(dim=1).values)


def test_shuffling_gives_sources_away_differently_in_every_row_and_for_every_seed() -> None:
    scores = torch.arange(20.0).repeat(20, 1)
    first, second = (shuffle_sources(scores, torch.arange(20), seed) for seed in (0, 1))
    for mixed in (first, second):
        stayed = (mixed == scores).sum() - 20
        assert stayed < 60  # 380 entries; about one in 19 stays where it was
        assert len(torch.unique(mixed, dim=0)) == 20
    assert not torch.equal(first, second)


def test_shuffled_asks_for_what_its_scorer_needs() -> None:
    assert Shuffled(KTA()).needs_labels
    assert not Shuffled(Uniform()).needs_labels
    assert Shuffled(KnFu("oracle")).needs_class_distribution
    assert not Shuffled(DataSize()).needs_class_distribution
    torch.testing.assert_close(Shuffled(Uniform())(BANK, None), torch.zeros(3, 3))


def test_random_numbers_belong_to_a_pair_of_clients() -> None:
    ids = torch.tensor([2, 5, 11])
    both = pair_uniform(ids, 7)
    assert torch.equal(pair_uniform(ids[[2, 0]], 7), both[[2, 0]][:, [2, 0]])
    assert not torch.equal(both, pair_uniform(ids, 8))
    assert both[0, 1] != both[1, 0]
    many = pair_uniform(torch.arange(300), 0)
    assert ((many > 0) & (many < 1)).all()
    counts = torch.histc(many.float(), bins=10, min=0, max=1)
    # 9,000 each, with a standard deviation of 90.
    assert (counts - 9000).abs().max() < 450
    assert (
        abs(
            float(
                torch.corrcoef(torch.stack([many[:, :-1].flatten(), many[:, 1:].flatten()]))[0, 1]
            )
        )
        < 0.02
    )


def test_random_weights_are_uniform_on_the_simplex() -> None:
    bank = replace(example_bank(200, 1, 2), client_ids=torch.arange(200))
    weights = Random(1)(bank, None).softmax(dim=1)
    # Dirichlet(1, ..., 1): mean 1/K, variance (K - 1) / (K^2 (K + 1)).
    torch.testing.assert_close(weights.mean(), torch.tensor(1 / 200))
    assert float(weights.var()) == pytest.approx(199 / (200**2 * 201), rel=0.05)
    assert math.isclose(float((weights < 1 / 200).float().mean()), 1 - math.exp(-1), abs_tol=0.01)
