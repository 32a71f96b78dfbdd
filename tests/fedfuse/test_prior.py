"""The label prior in logits, by hand and as laws; the balanced softmax; facts as columns."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.distill import KL
from fedfuse.errors import ParameterError
from fedfuse.extract import Adjusted, AdjustStage
from fedfuse.local_loss import BalancedSoftmax, CrossEntropy, cross_entropy, trained_tau
from fedfuse.prior import add_prior, log_prior, remove_prior
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.testing import check_extract, check_sharing_stage
from fedfuse.train.facts import Facts, Widened, labels_of, wants, widen
from fedfuse.types import KnowledgeBank

COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any)


def facts(counts, rows, floor=0.5):
    return Facts(prior=log_prior(torch.tensor(counts), floor).expand(rows, -1))


def test_the_prior_is_the_logarithm_of_floored_shares():
    # By hand: 3 and 1 of 4; 6, 3 and half a sample of 9.5.
    got = log_prior(torch.tensor([3, 1]))
    np.testing.assert_allclose(got, np.log([0.75, 0.25]), rtol=1e-6)
    got = log_prior(torch.tensor([[6, 3, 0], [1, 1, 1]]))
    np.testing.assert_allclose(got[0], np.log(np.array([6, 3, 0.5]) / 9.5), rtol=1e-6)
    np.testing.assert_allclose(got[1], np.log([1 / 3] * 3), rtol=1e-6)
    got = log_prior(torch.tensor([2, 0]), floor=0.1)
    np.testing.assert_allclose(got, np.log(np.array([2, 0.1]) / 2.1), rtol=1e-6)


@pytest.mark.parametrize("floor", [0, -1.0, float("nan"), float("inf"), True, "0.5"])
def test_a_floor_is_a_number_above_zero(floor):
    with pytest.raises(ParameterError, match="floor"):
        log_prior(torch.tensor([1, 1]), floor)
    for part in (BalancedSoftmax, Adjusted):
        with pytest.raises(ParameterError, match="floor"):
            part(floor=floor)


@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf"), True, "1"])
def test_a_strength_is_a_number_from_zero(tau):
    for part in (BalancedSoftmax, Adjusted):
        with pytest.raises(ParameterError, match="tau"):
            part(tau=tau)


def test_H1_the_balanced_softmax_by_hand():
    # z = (0, 0), n = (3, 1): label 1 has log(4), label 0 log(4/3).
    losses = BalancedSoftmax()(torch.zeros(2, 2), torch.tensor([1, 0]), facts([3, 1], 2))
    np.testing.assert_allclose(losses, [1.386294, 0.287682], atol=1e-6)
    # tau = 2 squares the shares: 9 and 1 of 10.
    losses = BalancedSoftmax(2.0)(torch.zeros(2, 2), torch.tensor([1, 0]), facts([3, 1], 2))
    np.testing.assert_allclose(losses, np.log([10, 10 / 9]), atol=1e-6)


@pytest.mark.parametrize(("tau", "counts"), [(0.0, [9, 3, 0]), (1.0, [7, 7, 7]), (2.0, [2, 2, 2])])
def test_H1_without_tau_or_with_equal_counts_it_is_the_cross_entropy(tau, counts):
    logits = 3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6) % 3
    losses = BalancedSoftmax(tau)(logits, labels, facts(counts, 6))
    plain = cross_entropy(logits, labels)
    assert torch.equal(losses, plain) or tau > 0
    torch.testing.assert_close(losses, plain, atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=50)
@given(COUNTS, st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_laws_of_the_prior(counts, seed, tau):
    draw = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(4, len(counts), generator=draw)
    labels = torch.randint(len(counts), (4,), generator=draw)
    prior = log_prior(torch.tensor(counts))
    assert prior.exp().sum().item() == pytest.approx(1, abs=1e-5)
    there_and_back = remove_prior(add_prior(logits, prior, tau), prior, tau)
    torch.testing.assert_close(there_and_back, logits, rtol=1e-5, atol=1e-4)
    assert add_prior(logits, prior, 0) is logits
    plain = cross_entropy(logits, labels)
    rows = facts(counts, 4)
    assert torch.equal(BalancedSoftmax(0)(logits, labels, rows), plain)
    equal = facts([7] * len(counts), 4)
    torch.testing.assert_close(BalancedSoftmax(tau)(logits, labels, equal), plain)
    # What it minimises is the cross-entropy of the logits with the prior back in.
    with_prior = cross_entropy(add_prior(logits, prior, tau), labels)
    assert torch.equal(BalancedSoftmax(tau)(logits, labels, rows), with_prior)


def test_facts_are_columns_that_come_back_as_they_were():
    seen = {}

    class Asks:
        wants: ClassVar = frozenset({"labels", "own", "prior", "clock"})

        def __call__(self, logits, targets, facts):
            seen.update(targets=targets, facts=facts)
            return logits.sum(dim=1)

    draw = torch.Generator().manual_seed(0)
    given = Facts(
        labels=torch.tensor([2, 2**24, 0]),
        own=torch.randn(3, 4, generator=draw),
        prior=torch.randn(3, 4, generator=draw),
        clock=torch.tensor([0.0, 0.5, 1.0]),
    )
    teachers = torch.rand(3, 4, generator=draw)
    loss = Asks()
    Widened(loss, wants(loss))(torch.zeros(3, 4), widen(teachers, given))
    assert torch.equal(seen["targets"], teachers)
    for name in Asks.wants:
        came, went = getattr(seen["facts"], name), getattr(given, name)
        assert came.dtype == went.dtype
        assert torch.equal(came, went)


def test_a_loss_on_labels_gets_them_as_labels():
    labels, prior = torch.tensor([1, 2**24 - 1]), torch.zeros(2, 3)
    wide = widen(labels, Facts(prior=prior))
    assert wide.shape == (2, 4)
    assert torch.equal(labels_of(wide), labels)
    assert labels_of(labels) is labels
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    wide = widen(torch.tensor([1, 0]), Facts(prior=prior))
    loss = BalancedSoftmax()
    got = Widened(loss, wants(loss))(logits, wide)
    assert torch.equal(got, cross_entropy(logits, torch.tensor([1, 0])))
    # Clients train together if their losses are equal.
    assert Widened(loss, wants(loss)) == Widened(BalancedSoftmax(), wants(loss))
    assert Widened(loss, wants(loss)) != Widened(BalancedSoftmax(0.5), wants(loss))
    assert wants(KL()) == wants(CrossEntropy()) == frozenset()
    assert trained_tau(BalancedSoftmax(0.5)) == 0.5
    assert trained_tau(CrossEntropy()) == 0


def bank_of(logits):
    return KnowledgeBank(torch.arange(len(logits)), logits, torch.ones(len(logits)).long())


def context_of(counts, num_public):
    clients = range(len(counts))
    return SharingContext(
        "m", 1, torch.arange(num_public), torch.tensor(counts), {i: {} for i in clients}, Streams(0)
    )


def test_what_is_shared_lacks_the_prior_whatever_loss_trained_it():
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    counts = [[6, 3, 0], [1, 1, 1]]
    prior = log_prior(torch.tensor(counts))

    def shared(trained, tau=1.0):
        stage = AdjustStage(Adjusted(tau), trained)
        return stage(bank_of(logits), context_of(counts, 5)).logits

    torch.testing.assert_close(shared(0.0), logits - prior[:, None])
    assert torch.equal(shared(1.0), logits)  # the balanced softmax has left nothing to take out
    torch.testing.assert_close(shared(0.25), logits - 0.75 * prior[:, None])
    torch.testing.assert_close(shared(1.0, tau=0.0), logits + prior[:, None])
    assert torch.equal(shared(0.0, tau=0.0), logits)


def test_on_the_wire_adjusted_logits_are_logits():
    check_extract(Adjusted())
    check_sharing_stage(AdjustStage(Adjusted()))
