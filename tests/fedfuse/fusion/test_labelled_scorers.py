"""Scores from labelled public samples: ranks, neighbours, gradients. By hand, masked, refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.fusion import ByClass, MeanProbabilities, Pipeline
from fedfuse.fusion.controls import Shuffled
from fedfuse.fusion.gradient_agreement import GradientAgreement, gradient_agreement
from fedfuse.fusion.nearest_neighbour_probe import NearestNeighbourProbe, neighbours_vote
from fedfuse.fusion.neighbours import All
from fedfuse.fusion.reciprocal_rank import ReciprocalRank, reciprocal_rank
from fedfuse.fusion.reference import ReferenceAccuracy
from fedfuse.testing import check_scorer
from fedfuse.testing.fusion import example_bank
from fedfuse.types import KnowledgeBank

SCORERS = [
    ReciprocalRank(),
    ReciprocalRank(1, 0.0),
    ReciprocalRank(2, 3.0, per_class=True),
    NearestNeighbourProbe(),
    NearestNeighbourProbe(k=1, choice="best", seed=3),
    GradientAgreement(),
    GradientAgreement(epsilon=0.2, temperature=2.0),
]


def bank_of(logits: Tensor, shares: Tensor | None = None) -> KnowledgeBank:
    ids = torch.arange(len(logits))
    return KnowledgeBank(ids, logits, torch.full_like(ids, 10), shares)


def guessed(num_clients: int, num_samples: int, num_classes: int, sure: list[float]) -> Tensor:
    """Return logits that name the class ``sample % C`` in so large a share, else noise alone."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(num_clients, num_samples, num_classes, generator=draw)
    labels = torch.arange(num_samples) % num_classes
    for row, share in enumerate(sure):
        logits[row, torch.arange(num_samples), labels] += 3 * share
    return logits


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_they_keep_the_promises_of_a_scorer_alone_and_inside_others(scorer) -> None:
    check_scorer(scorer)
    check_scorer(Shuffled(scorer))
    check_scorer(Shuffled(ByClass(scorer, evidence="epd")))
    for around in (Shuffled(scorer), ByClass(scorer, evidence="epd")):
        assert around.needs_labels
        assert around.needs_class_distribution == getattr(scorer, "needs_class_distribution", False)


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_without_labels_or_with_those_of_other_classes_they_say_so(scorer) -> None:
    bank = example_bank(3, 6, 4)
    with pytest.raises(KnowledgeError, match=f"{type(scorer).__name__} needs the labels"):
        scorer(bank, None)
    with pytest.raises(KnowledgeError, match="do not fit"):
        scorer(bank, torch.full((6,), 4))
    with pytest.raises(KnowledgeError, match="got 5 labels"):
        scorer(bank, torch.zeros(5, dtype=torch.int64))


# -- D1 --------------------------------------------------------------------------------------------


def test_D1_by_hand() -> None:
    # Ranks 1 and 2 of one client: (1 + 1/2) / 2 = .75; 2 and 2 of the other: .5
    logits = torch.tensor([[[3.0, 2, 1], [2.0, 3, 1]], [[2.0, 3, 1], [2.0, 3, 1]]])
    scores = ReciprocalRank()(bank_of(logits), torch.tensor([0, 0]))
    expected = torch.tensor([[-0.287682, -0.693147]] * 2)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    weights = scores.softmax(dim=1)
    torch.testing.assert_close(weights, torch.tensor([[0.6, 0.4]] * 2), atol=1e-5, rtol=0)
    sharp = ReciprocalRank(sharpness=2.0)(bank_of(logits), torch.tensor([0, 0]))
    torch.testing.assert_close(sharp, 2 * scores)


def test_D1_beyond_k_counts_for_nothing_and_has_a_finite_score() -> None:
    logits = torch.tensor([[[1.0, 2, 3, 4]], [[1.0, 2, 3, 4]]])
    assert reciprocal_rank(logits[0], torch.tensor([1]), 2).tolist() == [0]
    third = reciprocal_rank(logits[0].double(), torch.tensor([1]), 3)
    assert third.tolist() == [1 / 3], "in the precision of the predictions"
    scores = ReciprocalRank(k=2)(bank_of(logits), torch.tensor([1]))
    torch.testing.assert_close(scores, torch.full((2, 2), math.log(1e-8)))


def test_D1_with_k_1_orders_sources_as_their_accuracy_does_ties_included() -> None:
    logits = torch.randint(0, 3, (7, 60, 4), generator=torch.Generator().manual_seed(1)).float()
    labels = torch.arange(60) % 4
    by_rank = ReciprocalRank(k=1)(bank_of(logits), labels)[0]
    by_accuracy = ReferenceAccuracy()(bank_of(logits), labels)[0]
    assert torch.equal(by_rank.argsort(stable=True), by_accuracy.argsort(stable=True))
    accuracy = (logits.argmax(dim=2) == labels).float().mean(dim=1)
    torch.testing.assert_close(by_rank.exp(), accuracy)


def test_D1_per_class_weighs_by_the_receivers_classes_of_which_there_are_samples() -> None:
    """Source 0 knows class 0, source 1 class 1; of class 2 there is no public sample."""
    logits = torch.tensor([[[3.0, 2, 1], [3.0, 2, 1]], [[2.0, 3, 1], [2.0, 3, 1]]])
    labels = torch.tensor([0, 1])
    shares = torch.tensor([[0.2, 0.6, 0.2], [0.0, 0.0, 1.0]])
    scores = ReciprocalRank(per_class=True)(bank_of(logits, shares), labels)
    # (.2 * 1 + .6 * .5) / .8 and (.2 * .5 + .6 * 1) / .8; who has class 2 alone: over all samples
    expected = torch.tensor([[0.625, 0.875], [0.75, 0.75]]).log()
    torch.testing.assert_close(scores, expected)
    mask = torch.tensor([[True, True], [True, False]])  # source 1 answers class 0 alone
    masked = ReciprocalRank(per_class=True)(replace(bank_of(logits, shares), mask=mask), labels)
    torch.testing.assert_close(masked.exp(), torch.tensor([[0.625, 0.5], [0.75, 0.5]]))
    with pytest.raises(KnowledgeError, match="needs the clients' class shares"):
        ReciprocalRank(per_class=True)(bank_of(logits), labels)


# -- D2 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "accuracy"), [(1, 1.0), (3, 0.5), (50, 0.5)])
def test_D2_by_hand(k: int, accuracy: float) -> None:
    line, labels = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([0, 0, 1])
    votes = neighbours_vote(line, labels, torch.tensor([[0.4], [9.0]]), k, 2)
    assert (votes == torch.tensor([0, 1])).float().mean() == accuracy


def test_D2_the_smaller_class_wins_a_tied_vote_and_blocks_change_nothing(monkeypatch) -> None:
    line = torch.tensor([[0.0], [1.0]])
    assert neighbours_vote(line, torch.tensor([2, 1]), line, 2, 3).tolist() == [1, 1]
    draw = torch.Generator().manual_seed(0)
    asked, references = torch.randn(2, 9, 3, generator=draw).unbind()
    labels = torch.arange(9) % 3
    whole = neighbours_vote(references, labels, asked, 3, 3)
    monkeypatch.setattr("fedfuse.fusion.nearest_neighbour_probe._BLOCK_ELEMENTS", 60)
    assert torch.equal(neighbours_vote(references, labels, asked, 3, 3), whole)


def test_D2_hears_those_above_chance_and_oneself() -> None:
    """Two that know, one that guesses; on average the guesser is right in a tenth."""
    bank, labels = bank_of(guessed(3, 600, 10, [1, 0, 0.5])), torch.arange(600) % 10
    found = torch.stack(
        [NearestNeighbourProbe(seed=seed).accuracies(bank, labels) for seed in range(20)]
    )
    assert found[:, 1].mean() == pytest.approx(0.1, abs=0.02)
    seed = int(found[:, 1].argmin())
    assert found[seed, 1] < 0.1
    scores = NearestNeighbourProbe(seed=seed)(bank, labels)
    own = torch.eye(3, dtype=torch.bool)
    assert (scores[:, 1].isneginf() == ~own[:, 1]).all()
    assert scores.diagonal().isfinite().all()
    torch.testing.assert_close(scores[0, [0, 2]].exp(), found[seed, [0, 2]])
    best = NearestNeighbourProbe(seed=seed, choice="best")(bank, labels)
    assert (best.isfinite() == (own | (torch.arange(3) == int(found[seed].argmax())))).all()


def test_D2_of_equally_good_ones_none_is_best_because_it_comes_first() -> None:
    labels = torch.arange(30) % 3
    right = torch.nn.functional.one_hot(labels, 3).float()
    bank = bank_of(torch.stack([right, torch.zeros(30, 3), 2 * right]))
    scores = NearestNeighbourProbe(choice="best")(bank, labels)
    good = torch.tensor([True, False, True])
    assert torch.equal(scores.isfinite(), good | torch.eye(3, dtype=torch.bool))


def test_D2_all_at_chance_leaves_everybody_to_itself() -> None:
    constant = torch.zeros(3, 30, 2)  # the vote is a constant: right on about half
    labels = torch.zeros(30, dtype=torch.int64)
    labels[15:] = 1
    scorer = next(
        scorer
        for scorer in (NearestNeighbourProbe(seed=seed) for seed in range(20))
        if float(scorer.accuracies(bank_of(constant), labels).max()) <= 0.5
    )
    for choice in ("all", "best"):
        scores = replace(scorer, choice=choice)(bank_of(constant), labels)
        assert torch.equal(scores.isfinite(), torch.eye(3, dtype=torch.bool))


def test_D2_draws_another_order_in_every_round_and_the_same_in_the_same() -> None:
    bank, labels = bank_of(guessed(3, 60, 4, [0.3, 0.2, 0.1])), torch.arange(60) % 4
    first, again, second = (
        NearestNeighbourProbe().at_round(round_)(bank, labels) for round_ in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    pipeline = Pipeline(NearestNeighbourProbe(), All(), MeanProbabilities())
    weights = pipeline(bank, labels, round_=1).weights
    torch.testing.assert_close(weights, first.softmax(dim=1))


def test_D2_a_client_without_a_reference_or_a_question_is_not_heard() -> None:
    bank, labels = bank_of(guessed(3, 60, 4, [1, 1, 1])), torch.arange(60) % 4
    mask = torch.ones(3, 60, dtype=torch.bool)
    mask[1] = False
    mask[2, 1:] = False
    scores = NearestNeighbourProbe()(replace(bank, mask=mask), labels)
    assert scores[0].isfinite().tolist() == [True, False, False]
    assert scores.diagonal().isfinite().all()


def test_D2_refuses_fewer_than_3_samples() -> None:
    with pytest.raises(KnowledgeError, match="got 2 samples"):
        NearestNeighbourProbe()(example_bank(2, 2, 3), torch.tensor([0, 1]))


# -- D3 --------------------------------------------------------------------------------------------


def test_D3_by_hand() -> None:
    """g along u, h along u + v and v - u, where u and v are orthogonal and on the simplex."""
    u = torch.tensor([1.0, -1, 0]).double() / math.sqrt(2)
    v = torch.tensor([1.0, 1, -2]).double() / math.sqrt(6)
    own = torch.tensor([0.5, 0.5, 0]).double()  # of label 1: own - y is along u
    probs = torch.stack([own, own - 0.3 * (u + v), own - 0.3 * (v - u)]).unsqueeze(1)
    found = gradient_agreement(probs, torch.tensor([1]))[0]
    expected = torch.tensor([0, 0.707107, -0.707107]).double()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    logits = probs.clamp_min(1e-30).log()
    scores = GradientAgreement()(bank_of(logits), torch.tensor([1]))[0]
    expected = torch.tensor([0, math.log(0.5) / 2, -math.inf]).double()
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert GradientAgreement(epsilon=0.8)(bank_of(logits), torch.tensor([1]))[0, 1].isneginf()


def test_D3_is_the_mean_cosine_of_gradients_that_autograd_finds(monkeypatch) -> None:
    bank, labels = example_bank(4, 9, 5), torch.arange(9) % 5
    found = gradient_agreement(bank.logits.softmax(dim=2), labels)
    z = bank.logits.double()
    for i in range(4):
        own = z[i].clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(own, labels, reduction="sum")
        (g,) = torch.autograd.grad(loss, own)
        for j in set(range(4)) - {i}:
            kl = torch.nn.functional.kl_div(
                own.log_softmax(dim=1), z[j].softmax(dim=1), reduction="sum"
            )
            (h,) = torch.autograd.grad(kl, own)
            mean = torch.nn.functional.cosine_similarity(g, h, dim=1).mean()
            torch.testing.assert_close(found[i, j].double(), mean, atol=1e-5, rtol=0)
    monkeypatch.setattr("fedfuse.fusion.gradient_agreement._BLOCK_ELEMENTS", 40)
    torch.testing.assert_close(gradient_agreement(bank.logits.softmax(dim=2), labels), found)


def test_D3_a_twin_is_not_heard_and_who_is_right_already_has_nothing_to_agree_on() -> None:
    logits = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1)
    labels = torch.arange(8) % 4
    scores = GradientAgreement()(bank_of(logits), labels)
    assert scores.tolist() == [[0, -math.inf], [-math.inf, 0]]
    right = 1e4 * torch.nn.functional.one_hot(labels, 4).float()
    scores = GradientAgreement()(bank_of(torch.stack([right, logits[0]])), labels)
    assert scores[0].tolist() == [0, -math.inf]
    assert scores[1, 0].isfinite()  # the other is pulled right where the labels pull it


def test_D3_means_are_over_what_both_answered() -> None:
    bank, labels = example_bank(3, 10, 4), torch.arange(10) % 4
    mask = torch.zeros(3, 10, dtype=torch.bool)
    mask[0, :6], mask[1, 3:], mask[2, 8:] = True, True, True
    found = gradient_agreement(bank.logits.softmax(dim=2), labels, mask)
    both = bank.logits[:, 3:6].softmax(dim=2)
    expected = gradient_agreement(both, labels[3:6])[0, 1]
    torch.testing.assert_close(found[0, 1], expected)
    assert found[0, 2] == 0  # nothing in common
    assert GradientAgreement()(replace(bank, mask=mask), labels)[0, 2].isneginf()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ReciprocalRank(k=0), "'k' parameter"),
        (lambda: ReciprocalRank(sharpness=math.nan), "'sharpness' parameter"),
        (lambda: ReciprocalRank(per_class=1), "'per_class' parameter"),
        (lambda: NearestNeighbourProbe(k=1.5), "'k' parameter"),
        (lambda: NearestNeighbourProbe(share=1), "'share' parameter"),
        (lambda: NearestNeighbourProbe(choice="bets"), "Did you mean 'best'"),
        (lambda: NearestNeighbourProbe(seed=-1), "'seed' parameter"),
        (lambda: GradientAgreement(epsilon=1), "'epsilon' parameter"),
        (lambda: GradientAgreement(epsilon=-0.1), "'epsilon' parameter"),
        (lambda: GradientAgreement(temperature=True), "'temperature' parameter"),
    ],
)
def test_what_is_refused(make, words) -> None:
    with pytest.raises(ParameterError, match=words):
        make()
