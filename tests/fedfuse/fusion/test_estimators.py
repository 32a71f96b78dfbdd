"""Estimated class distributions, by hand and on a skewed public set."""

from __future__ import annotations

import math

import pytest
import torch

from fedfuse.errors import KnowledgeError
from fedfuse.fusion import estimators

LOG3 = math.log(3)
# Two clients, three samples, two classes; softmax(log 3, 0) = (3/4, 1/4).
LOGITS = torch.tensor(
    [
        [[LOG3, 0.0], [0.0, 0.0], [0.0, LOG3]],
        [[LOG3, 0.0], [LOG3, 0.0], [0.0, 0.0]],
    ]
)
LABELS = torch.tensor([0, 0, 1])
MASK = torch.tensor([[True, True, False], [False, False, False]])


def test_mean_soft_by_hand() -> None:
    # Client 0: means of 3/4, 1/2, 1/4. Client 1: of 3/4, 3/4, 1/2 = 2/3.
    expected = torch.tensor([[0.5, 0.5], [2 / 3, 1 / 3]])
    torch.testing.assert_close(estimators.mean_soft(LOGITS), expected)


def test_mean_soft_takes_a_temperature() -> None:
    # softmax(log 3 / T) with T = 1/2 is 9 : 1. Client 1: (0.9 + 0.9 + 0.5) / 3 = 0.766667.
    got = estimators.mean_soft(LOGITS, temperature=0.5)
    torch.testing.assert_close(got[1], torch.tensor([0.766667, 0.233333]))


def test_masked_samples_do_not_count() -> None:
    # Client 0 answered 3/4 and 1/2: 5/8. Client 1 answered nothing: uniform. Hidden NaN is no harm.
    logits = torch.where(MASK.unsqueeze(-1), LOGITS, torch.nan)
    expected = torch.tensor([[0.625, 0.375], [0.5, 0.5]])
    torch.testing.assert_close(estimators.mean_soft(logits, MASK), expected)


def test_prior_corrected_by_hand() -> None:
    # Shares 2/3 and 1/3. Client 0: 1/2 / 2 : 1/2 / 1 = 1 : 2. Client 1: 2/3 / 2 : 1/3 = 1 : 1.
    expected = torch.tensor([[1 / 3, 2 / 3], [0.5, 0.5]])
    torch.testing.assert_close(estimators.prior_corrected(LOGITS, LABELS), expected)
    # Masked, client 0 answered two samples of class 0 and none of class 1, which counts as one:
    # 5/8 / 2 : 3/8 / 1 = 5 : 6.
    got = estimators.prior_corrected(LOGITS, LABELS, MASK)
    torch.testing.assert_close(got, torch.tensor([[5 / 11, 6 / 11], [0.5, 0.5]]))


def test_prior_correction_repairs_a_skewed_public_set() -> None:
    """A perfect predictor's mean is the public prior; corrected, it is uniform again."""
    labels = torch.tensor([0] * 8 + [1] * 2)
    logits = 100 * torch.nn.functional.one_hot(labels, 2).float().unsqueeze(0)
    torch.testing.assert_close(estimators.mean_soft(logits), torch.tensor([[0.8, 0.2]]))
    corrected = estimators.prior_corrected(logits, labels)
    torch.testing.assert_close(corrected, torch.tensor([[0.5, 0.5]]))


def test_class_conditional_by_hand() -> None:
    # Client 0: class 0 on its samples (3/4 + 1/2) / 2 = 5/8, class 1 on its own 3/4: 5 : 6.
    # Client 1: 3/4 and 1/2: 3 : 2.
    expected = torch.tensor([[5 / 11, 6 / 11], [3 / 5, 2 / 5]])
    torch.testing.assert_close(estimators.class_conditional(LOGITS, LABELS), expected)
    # Masked, client 0 has no sample of class 1 left, client 1 none at all.
    got = estimators.class_conditional(LOGITS, LABELS, MASK)
    torch.testing.assert_close(got, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))


def test_label_histogram_by_hand() -> None:
    shares = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [1.1, -0.1]])
    sizes = torch.tensor([8, 4, 5, 8])
    # One sample each: 9 : 1 of 10. Nothing known: uniform. Noise below zero is cut off.
    expected = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    torch.testing.assert_close(estimators.label_histogram(shares, sizes, 1.0), expected)
    assert torch.equal(estimators.label_histogram(shares[:2], sizes[:2]), shares[:2])


def test_oracle_takes_nothing_but_the_truth() -> None:
    shares = torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    assert estimators.oracle(shares) is shares
    for wrong in (torch.tensor([[1.1, -0.1]]), torch.tensor([[0.5, 0.4]])):
        with pytest.raises(KnowledgeError, match="epd=label_histogram"):
            estimators.oracle(wrong)


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([[[1e4, -1e4]], [[-1e4, 1e4]]])
    torch.testing.assert_close(estimators.mean_soft(logits), torch.eye(2))
