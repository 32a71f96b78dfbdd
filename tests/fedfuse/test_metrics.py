"""Metrics against numbers worked out by hand and slow loops in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.errors import DataError, ParameterError
from fedfuse.metrics import (
    Judged,
    accuracies,
    accuracy,
    cross_entropy,
    pairwise_disagreement,
)

# softmax: (2/3, 1/3), (1/4, 3/4), (1/2, 1/2), (1/5, 4/5)
LOGITS = torch.tensor([[2.0, 1.0], [1.0, 3.0], [1.0, 1.0], [1.0, 4.0]]).log()
LABELS = torch.tensor([0, 0, 1, 1])


def evaluate_logits(logits: Tensor, labels: Tensor, num_bins: int = 15) -> dict[str, float]:
    told = Judged.of(logits, labels).told([len(labels)], num_bins)
    return {name: values[0] for name, values in told.items()}


def calibration(probs: Tensor, labels: Tensor, num_bins: int) -> float:
    return evaluate_logits(probs.log(), labels, num_bins)["ece"]


def test_accuracy_by_hand():
    assert accuracy(LOGITS[[0, 1, 3]], LABELS[[0, 1, 3]]) == 2 / 3


def test_cross_entropy_by_hand():
    expected = (math.log(3 / 2) + math.log(4) + math.log(2) + math.log(5 / 4)) / 4
    assert cross_entropy(LOGITS, LABELS) == pytest.approx(expected, abs=1e-7)


def test_cross_entropy_adds_up_in_float64():
    # float32 could not tell the one surprising sample among a million quiet ones.
    logits = torch.zeros(1_000_000, 2)
    logits[:, 0] = 10.0
    logits[0, 0] = -10.0
    quiet, surprise = math.log1p(math.exp(-10)), 10 + math.log1p(math.exp(-10))
    quiet_total = 999_999 * quiet
    labels = torch.zeros(1_000_000, dtype=torch.int64)
    expected = (quiet_total + surprise) / 1_000_000
    assert cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-12)


def test_calibration_by_hand():
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    # five bins: (0.8, 1]: 0.9 right; (0.6, 0.8]: 0.8 wrong, 0.7 right; (0.4, 0.6]: 0.55 wrong
    expected = (1 / 4) * 0.1 + (2 / 4) * abs(0.5 - 0.75) + (1 / 4) * 0.55
    assert calibration(probs, labels, num_bins=5) == pytest.approx(expected)
    # one bin: accuracy 2/4, mean confidence 2.95/4
    assert calibration(probs, labels, num_bins=1) == pytest.approx(0.95 / 4)


def slow_ece(probs: Tensor, labels: Tensor, num_bins: int) -> float:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(num_bins)]
    for row, label in zip(probs.double().tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        m = next(m for m in range(num_bins) if m / num_bins < confidence <= (m + 1) / num_bins)
        bins[m].append((confidence, row.index(confidence) == label))
    total = 0.0
    for members in bins:
        if members:
            mean_confidence = sum(c for c, _ in members) / len(members)
            hits = sum(hit for _, hit in members) / len(members)
            total += len(members) / len(labels) * abs(hits - mean_confidence)
    return total


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 6), st.integers(1, 20))
def test_calibration_equals_the_slow_loop(seed, n, c, num_bins):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, c, generator=generator, dtype=torch.float64)
    labels = torch.randint(c, (n,), generator=generator)
    expected = slow_ece(logits.log_softmax(1).exp(), labels, num_bins)
    assert evaluate_logits(logits, labels, num_bins)["ece"] == pytest.approx(expected)


def test_calibration_at_its_ends():
    sure = torch.eye(3)
    assert calibration(sure, torch.tensor([0, 1, 2]), 15) == 0
    assert calibration(sure, torch.tensor([1, 2, 0]), 15) == 1
    with pytest.raises(ParameterError, match="num_bins"):
        calibration(sure, torch.tensor([0, 1, 2]), num_bins=0)


def test_evaluate_logits_agrees_with_the_single_functions():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 4
    assert evaluate_logits(logits, labels) == {
        "accuracy": accuracy(logits, labels),
        "loss": pytest.approx(cross_entropy(logits, labels), rel=1e-14),
        "ece": pytest.approx(slow_ece(logits.double().softmax(1), labels, 15), rel=1e-12),
    }


def test_many_models_at_once_by_hand():
    judged = Judged.of(LOGITS[[0, 1, 3]], LABELS[[0, 1, 3]])
    where, answers = torch.tensor([0, 1, -1]), (LOGITS[[0, 2, 1]], LABELS[[0, 2, 1]])
    own = judged.at(where, *answers)  # the second is known, the third is not
    joined = Judged.of(LOGITS[[0, 1, 1, 0, 1, 3]], LABELS[[0, 1, 1, 0, 1, 3]])
    assert joined.told([3, 3], num_bins=1) == {
        "accuracy": [1 / 3, 2 / 3],
        "loss": pytest.approx(
            [
                (math.log(3 / 2) + 2 * math.log(4)) / 3,
                (math.log(3 / 2) + math.log(4) + math.log(5 / 4)) / 3,
            ],
            abs=1e-7,
        ),
        "ece": pytest.approx(
            [abs(1 / 3 - (2 / 3 + 3 / 4 + 3 / 4) / 3), abs(2 / 3 - (2 / 3 + 3 / 4 + 4 / 5) / 3)],
            abs=1e-7,
        ),
    }
    assert own.told([3]) == {name: [values[0]] for name, values in joined.told([3, 3]).items()}


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_who_is_judged_beside_does_not_matter_to_the_last_bit(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(sum(sizes), 7, generator=generator)
    labels = torch.randint(7, (sum(sizes),), generator=generator)
    parts = zip(torch.split(logits, sizes), torch.split(labels, sizes), strict=True)
    alone = [evaluate_logits(own.clone(), theirs.clone()) for own, theirs in parts]
    told = Judged.of(logits, labels).told(sizes)
    assert alone == [{name: told[name][row] for name in told} for row in range(len(sizes))]
    assert [one["loss"] for one in alone] == [
        cross_entropy(own, theirs)
        for own, theirs in zip(torch.split(logits, sizes), torch.split(labels, sizes), strict=True)
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)),
        lambda: cross_entropy(LOGITS, LABELS[:2]),
        lambda: evaluate_logits(LOGITS[0], LABELS[:1]),
        lambda: evaluate_logits(LOGITS, LABELS[:, None]),
        lambda: Judged.of(LOGITS, LABELS).told([4, 0]),
    ],
)
def test_what_cannot_be_measured_is_refused(call):
    with pytest.raises(DataError):
        call()


def test_disagreement_is_the_share_of_pairs_that_differ():
    logits = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    named = logits.argmax(2)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    by_hand = sum(float((named[i] != named[j]).double().mean()) for i, j in pairs) / len(pairs)
    assert pairwise_disagreement(logits) == pytest.approx(by_hand)
    assert pairwise_disagreement(logits[:1].expand(4, -1, -1)) == 0
    with pytest.raises(DataError, match="two clients"):
        pairwise_disagreement(logits[:1])


def test_an_answer_that_was_not_given_disagrees_with_nobody():
    # Sample 0: three answers, two alike: 2 of 3 pairs differ. Sample 1: one answer, no pair.
    named = torch.tensor([[0, 1], [0, 2], [1, 0], [2, 0]])
    mask = torch.tensor([[True, False], [True, False], [True, True], [False, False]])
    logits = torch.nn.functional.one_hot(named, 3).float()
    logits[3] = torch.nan
    assert pairwise_disagreement(logits, mask) == pytest.approx(2 / 3)
    assert math.isnan(pairwise_disagreement(logits, torch.zeros_like(mask)))


def test_of_no_models_there_are_no_accuracies() -> None:
    """Clients none of which has validation data."""
    assert accuracies(torch.zeros(0, dtype=torch.bool), []) == []
