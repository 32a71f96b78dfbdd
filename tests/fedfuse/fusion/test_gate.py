"""The server's gate of own and fused, and fusion without the sources' priors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.fusion import All, GeometricMean, MeanLogits, MeanProbabilities, Pipeline, Uniform
from fedfuse.fusion.filters import AmbiguityFilter
from fedfuse.fusion.gate import BestSource, OwnOrFused
from fedfuse.fusion.logit_adjusted import LogitAdjusted
from fedfuse.testing import check_rule, example_bank
from fedfuse.types import KnowledgeBank, Space

MEAN = MeanProbabilities()
RULES = [
    *(BestSource(), OwnOrFused(MEAN), OwnOrFused(BestSource()), OwnOrFused(MeanLogits(), 2.0)),
    *(LogitAdjusted(MEAN), LogitAdjusted(MEAN, personal=True), LogitAdjusted(MeanLogits())),
    *(OwnOrFused(LogitAdjusted(MEAN)), LogitAdjusted(OwnOrFused(MEAN), temperature=3.0)),
]


def bank(*rows, shares=None):
    """A bank of these probabilities, one row of samples a client."""
    logits = torch.tensor(rows).log()
    shares = None if shares is None else torch.tensor(shares)
    ids = torch.arange(len(rows))
    return KnowledgeBank(ids, logits, torch.ones_like(ids), shares)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rules_keep_their_promises(rule):
    check_rule(rule)


def test_own_stays_unless_what_is_fused_is_surer():
    own = [[0.880797, 0.119203], [0.880797, 0.119203]]
    others = [[0.3, 0.7], [0.05, 0.95]]
    weights = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    made = OwnOrFused(MEAN)(bank(own, others), weights)
    torch.testing.assert_close(made.targets[0], torch.tensor([own[0], others[1]]))
    assert made.metrics == {"taken_share": 0.25}, "of the second client, which is its own teacher"
    alone = OwnOrFused(MEAN)(bank(own, others), torch.eye(2)).targets
    torch.testing.assert_close(alone, bank(own, others).logits.softmax(-1))


def test_the_surest_source_wins_and_equals_are_averaged():
    three = bank([[0.6, 0.4]], [[0.9, 0.1]], [[0.1, 0.9]])
    everybody = torch.full((3, 3), 1 / 3)
    made = BestSource()(three, everybody)
    torch.testing.assert_close(made, torch.full((3, 1, 2), 0.5))
    first = BestSource()(three, torch.tensor([[0.5, 0.5, 0.0]] * 3))
    torch.testing.assert_close(first, torch.tensor([[[0.9, 0.1]]] * 3))
    # two sources at 0.9 are averaged to one that is less sure than anybody: all keep their own
    kept = OwnOrFused(BestSource())(three, everybody).targets
    torch.testing.assert_close(kept, three.logits.softmax(-1))


def test_who_did_not_answer_gets_what_is_fused():
    two = bank([[0.99, 0.01]], [[0.6, 0.4]])
    masked = replace(two, mask=torch.tensor([[False], [True]]))
    made = OwnOrFused(MEAN)(masked, torch.full((2, 2), 0.5)).targets
    torch.testing.assert_close(made, torch.tensor([[[0.6, 0.4]], [[0.6, 0.4]]]))


def test_priors_come_off_and_go_on_again():
    z, shares = [[0.75, 0.25]], [0.75, 0.25]  # z = (log 3, 0) up to a constant
    one = bank(z, shares=[shares])
    free = LogitAdjusted(MeanLogits())(one, torch.eye(1)).targets
    lifted = free - free[..., :1] + 1.386294
    torch.testing.assert_close(lifted, torch.full((1, 1, 2), 1.386294), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        LogitAdjusted(MEAN)(one, torch.eye(1)).targets, torch.full((1, 1, 2), 0.5)
    )
    again = LogitAdjusted(MEAN, personal=True)(one, torch.eye(1)).targets
    torch.testing.assert_close(again, torch.tensor([[[0.75, 0.25]]]))


@pytest.mark.parametrize("inner", [MeanProbabilities(), MeanLogits(), GeometricMean()], ids=repr)
def test_without_tau_and_with_even_shares_it_is_the_inner_rule(inner):
    known = example_bank(4, 6, 5)
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    weights = weights / weights.sum(dim=1, keepdim=True)
    expected = inner(known, weights)
    assert torch.equal(LogitAdjusted(inner, tau=0.0)(known, weights).targets, expected)
    assert not torch.allclose(LogitAdjusted(inner)(known, weights).targets, expected)
    even = replace(known, class_distribution=torch.full((4, 5), 0.2))
    made = LogitAdjusted(inner)(even, weights).targets
    shift = math.log(0.2) if inner.space is Space.LOGITS else 0
    torch.testing.assert_close(made + shift, expected)


def test_pooled_logits_with_ones_own_prior_again_are_the_inner_rule_where_priors_are_equal():
    known = example_bank(3, 6, 4)
    alike = replace(known, class_distribution=known.class_distribution[:1].expand(3, -1))
    weights = torch.full((3, 3), 1 / 3)
    for inner in (MeanLogits(), GeometricMean(2.0)):
        made = LogitAdjusted(inner, personal=True, temperature=2.0)(alike, weights).targets
        torch.testing.assert_close(made, inner(alike, weights))


def test_the_inner_rule_fuses_at_the_same_temperature_and_a_filter_asks_without_it():
    known, weights = example_bank(3, 6, 4), torch.full((3, 3), 1 / 3)
    for rule in (OwnOrFused, LogitAdjusted):
        one, other = (rule(MeanProbabilities(t), temperature=4.0) for t in (1.0, 4.0))
        assert torch.equal(one(known, weights).targets, other(known, weights).targets)
        kept = [
            Pipeline(
                Uniform(),
                All(),
                rule(MEAN, temperature=t),
                filter=AmbiguityFilter(0.9),
                temperature=t,
            )(known).teachers.sample_weight
            for t in (1.0, 4.0)
        ]
        assert torch.equal(*kept)


def test_what_is_impossible_is_refused():
    for wrong in (
        {"tau": -1},
        {"floor": 0},
        {"floor": 1.0},
        {"personal": 1},
        {"inner": None},
        {"tau": float("nan")},
    ):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            LogitAdjusted(**{"inner": MEAN, **wrong})
    with pytest.raises(ParameterError, match="temperature"):
        OwnOrFused(MEAN, temperature=0)
    with pytest.raises(ParameterError, match="inner"):
        OwnOrFused(inner="mean_probs")
    with pytest.raises(KnowledgeError, match="share_class_distribution=true"):
        LogitAdjusted(MEAN)(bank([[0.5, 0.5]]), torch.eye(1))
