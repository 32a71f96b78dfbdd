"""Per-sample trust: measures by hand, the mean against a loop, confidences that were sent."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.fusion import MeanLogits, MeanProbabilities
from fedfuse.fusion.confidence import MEASURES, entropy, margin, max_prob, standardise, variance
from fedfuse.fusion.per_sample import (
    ConfidenceWeighted,
    UploadedConfidence,
    confidence_weighted_mean,
)
from fedfuse.types import KnowledgeBank

LOG3 = math.log(3)
# Two clients, one sample, two classes: (3/4, 1/4) and (1/2, 1/2).
LOGITS = torch.tensor([[[LOG3, 0.0]], [[0.0, 0.0]]])
BANK = KnowledgeBank(torch.arange(2), LOGITS, torch.tensor([1, 1]))
HALVES = torch.full((2, 2), 0.5)


def test_measures_by_hand() -> None:
    # H(3/4, 1/4) = 3/4 log 4/3 + 1/4 log 4 = 0.215762 + 0.346574 = 0.562335; H(1/2, 1/2) = log 2
    torch.testing.assert_close(entropy(LOGITS), torch.tensor([[-0.562335], [-0.693147]]))
    torch.testing.assert_close(margin(LOGITS)[0].exp(), torch.tensor([0.5]))
    assert margin(LOGITS)[1].exp() < 1e-37
    torch.testing.assert_close(max_prob(LOGITS).exp(), torch.tensor([[0.75], [0.5]]))
    # Var(log 3, 0) = (log 3 / 2)^2 = 0.301737
    torch.testing.assert_close(variance(LOGITS)[0].exp(), torch.tensor([0.301737]))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("num_classes", [2, 100])
def test_a_surer_answer_is_trusted_more_and_nothing_overflows(name: str, num_classes: int) -> None:
    peak = torch.zeros(4, num_classes)
    peak[:, 0] = torch.tensor([0.0, 1.0, 5.0, 1e4])
    trust = MEASURES[name](peak.unsqueeze(0))[0]
    assert trust.isfinite().all()
    assert (trust.diff()[:2] > 0).all()
    assert trust[3] >= trust[2]


def test_confidence_weighted_by_hand() -> None:
    def first(**options: object) -> float:
        return float(ConfidenceWeighted(**options)(BANK, HALVES)[0, 0, 0])

    # max_prob: trust 3/4 : 1/2 = 3 : 2, so (3 * 3/4 + 2 * 1/2) / 5 = 0.65
    assert first(measure="max_prob") == pytest.approx(0.65)
    # squared: 9 : 4, so (9 * 3/4 + 4 * 1/2) / 13 = 8.75 / 13
    assert first(measure="max_prob", sharpness=2) == pytest.approx(8.75 / 13)
    # margin 1/2 against 0, variance against 0: the undecided one does not count
    assert first(measure="margin") == pytest.approx(0.75)
    assert first(measure="variance") == pytest.approx(0.75)
    # entropy: exp(-0.562335) = 0.569877 against 1/2: (0.569877 * 3/4 + 1/4) / 1.069877
    assert first(measure="entropy") == pytest.approx(0.677408 / 1.069877, abs=1e-5)


def test_fed_et_weights_by_hand() -> None:
    # Variances 1 and 9 weigh the logits (1, -1) and (-3, 3) as 1/10 and 9/10: -2.6 and 2.6.
    logits = torch.tensor([[[1.0, -1.0]], [[-3.0, 3.0]]])
    rule = ConfidenceWeighted("variance", average="logits")
    fused = rule(replace(BANK, logits=logits), HALVES)
    torch.testing.assert_close(fused, torch.tensor([[[-2.6, 2.6]]] * 2))


def test_raw_variance_depends_on_the_architecture_and_standardised_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 50, 5, generator=generator)
    louder = logits * torch.tensor([1.0, 7.0]).view(2, 1, 1)
    quiet, loud = replace(BANK, logits=logits), replace(BANK, logits=louder)
    raw = variance(louder) - variance(logits)
    torch.testing.assert_close(raw[1], torch.full((50,), 2 * math.log(7)))
    torch.testing.assert_close(standardise(louder), standardise(logits))
    same = ConfidenceWeighted("variance", standardise=True)
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    # Receiver 0 hears only the client whose logits did not change.
    torch.testing.assert_close(same(loud, weights)[0], same(quiet, weights)[0])


def test_standardise_leaves_out_what_was_not_answered() -> None:
    logits = torch.tensor([[[2.0, -2.0], [torch.nan, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, False], [True, True]])
    scaled = standardise(logits, mask)
    assert scaled[0, 0].tolist() == [1, -1]
    assert scaled[1].tolist() == [[0, 0], [0, 0]]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(1, 8), masked=st.booleans())
def test_agrees_with_a_loop(seed: int, num_clients: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(num_clients, 5, 3, generator=generator)
    weights = torch.rand(num_clients, num_clients, generator=generator)
    log_confidence = 5 * torch.randn(num_clients, 5, generator=generator)
    mask = torch.rand(num_clients, 5, generator=generator) < (0.5 if masked else 2)
    got = confidence_weighted_mean(values, weights, log_confidence, mask if masked else None)
    for i in range(num_clients):
        for x in range(5):
            known = [j for j in range(num_clients) if mask[j, x]]
            c = {j: float(weights[i, j]) * math.exp(float(log_confidence[j, x])) for j in known}
            for k in range(3):
                expected = sum(c[j] * float(values[j, x, k]) for j in known)
                expected /= sum(c.values()) if known else 1
                assert float(got[i, x, k]) == pytest.approx(expected, abs=1e-5)


def test_sharpness_zero_is_the_plain_weighted_mean() -> None:
    bank = replace(BANK, logits=torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(1)))
    weights = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    for average, plain in (("probabilities", MeanProbabilities()), ("logits", MeanLogits())):
        rule = ConfidenceWeighted(sharpness=0, average=average)
        assert rule.space is plain.space
        torch.testing.assert_close(rule(bank, weights), plain(bank, weights))


def test_a_receiver_whose_sources_are_all_distrusted_gets_their_plain_mean() -> None:
    # Receiver 0 hears clients 0 and 1, beside whom client 2 is trusted e^500 times as much.
    values = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
    log_confidence = torch.tensor([[-500.0], [-600.0], [0.0]])
    fused = confidence_weighted_mean(values, torch.tensor([[0.25, 0.75, 0.0]]), log_confidence)
    torch.testing.assert_close(fused, torch.tensor([[[0.25, 0.75]]]))


@pytest.mark.parametrize(
    ("form", "sent", "first"),
    [
        # 3 : 1 of (3/4, 1/4) and (1/2, 1/2): 11/16
        ("ratio", [3.0, 1.0], 11 / 16),
        ("softmax", [LOG3, 0.0], 11 / 16),
        ("ratio", [0.0, 2.0], 1 / 2),
        ("ratio", [0.0, 0.0], 5 / 8),
        ("softmax", [-1000.0, -1000.0], 5 / 8),
    ],
)
def test_uploaded_confidence_by_hand(form: str, sent: list[float], first: float) -> None:
    bank = replace(BANK, confidence=torch.tensor(sent).unsqueeze(1))
    fused = UploadedConfidence(form)(bank, HALVES)
    torch.testing.assert_close(fused[:, 0], torch.tensor([[first, 1 - first]] * 2))


def test_fedaux_mean_of_logits_by_hand() -> None:
    # (3 (log 3, 0) + 1 (0, 0)) / 4
    bank = replace(BANK, confidence=torch.tensor([[3.0], [1.0]]))
    fused = UploadedConfidence("ratio", average="logits")(bank, HALVES)
    torch.testing.assert_close(fused[0, 0], torch.tensor([0.75 * LOG3, 0.0]))


@pytest.mark.parametrize(
    ("form", "sent"), [("softmax", None), ("softmax", torch.nan), ("ratio", -0.5)]
)
def test_confidences_that_cannot_be_used_are_named(form: str, sent: float | None) -> None:
    confidence = None if sent is None else torch.tensor([[1.0], [sent]])
    bank = replace(BANK, confidence=confidence)
    with pytest.raises(KnowledgeError, match="onfidence"):
        UploadedConfidence(form)(bank, HALVES)


def test_a_confidence_behind_a_mask_does_not_count() -> None:
    bank = replace(
        BANK,
        confidence=torch.tensor([[1.0], [torch.nan]]),
        mask=torch.tensor([[True], [False]]),
    )
    fused: Tensor = UploadedConfidence("ratio")(bank, HALVES)
    torch.testing.assert_close(fused[0, 0], torch.tensor([0.75, 0.25]))
