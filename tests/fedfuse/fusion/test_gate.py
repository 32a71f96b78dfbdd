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
    *(BestSource(by="label"), OwnOrFused(MEAN, by="label")),
    *(OwnOrFused(BestSource(by="label"), by="label"), OwnOrFused(BestSource(by="label"))),
    *(OwnOrFused(LogitAdjusted(MEAN)), LogitAdjusted(OwnOrFused(MEAN), temperature=3.0)),
]


def bank(*rows, shares=None):
    """A bank of these probabilities, one row of samples a client."""
    logits = torch.tensor(rows).log()
    shares = None if shares is None else torch.tensor(shares)
    ids = torch.arange(len(rows))
    return KnowledgeBank(ids, logits, torch.ones_like(ids), shares)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_B3_and_B7_rules_keep_their_promises(rule):
    check_rule(rule)


def test_B3_own_stays_unless_what_is_fused_is_surer():
    own = [[0.880797, 0.119203], [0.880797, 0.119203]]
    others = [[0.3, 0.7], [0.05, 0.95]]
    weights = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    made = OwnOrFused(MEAN)(bank(own, others), weights)
    expected = torch.tensor([own[0], others[1]])
    torch.testing.assert_close(made.targets[0], expected, atol=1e-5, rtol=0)
    assert made.metrics == {"taken_share": 0.25}, "of the second client, which is its own teacher"
    alone = OwnOrFused(MEAN)(bank(own, others), torch.eye(2)).targets
    torch.testing.assert_close(alone, bank(own, others).logits.softmax(-1))


def test_B3_the_surest_source_wins_and_equals_are_averaged():
    three = bank([[0.6, 0.4]], [[0.9, 0.1]], [[0.1, 0.9]])
    everybody = torch.full((3, 3), 1 / 3)
    made = BestSource()(three, everybody)
    torch.testing.assert_close(made, torch.full((3, 1, 2), 0.5))
    first = BestSource()(three, torch.tensor([[0.5, 0.5, 0.0]] * 3))
    torch.testing.assert_close(first, torch.tensor([[[0.9, 0.1]]] * 3))
    # two sources at 0.9 are averaged to one that is less sure than anybody: all keep their own
    kept = OwnOrFused(BestSource())(three, everybody).targets
    torch.testing.assert_close(kept, three.logits.softmax(-1))


def test_B3_who_did_not_answer_gets_what_is_fused():
    two = bank([[0.99, 0.01]], [[0.6, 0.4]])
    masked = replace(two, mask=torch.tensor([[False], [True]]))
    made = OwnOrFused(MEAN)(masked, torch.full((2, 2), 0.5)).targets
    torch.testing.assert_close(made, torch.tensor([[[0.6, 0.4]], [[0.6, 0.4]]]))


def test_B3_by_label_the_probability_of_the_label_decides():
    two = bank([[0.880797, 0.119203]] * 2, [[0.3, 0.7]] * 2)
    weights, labels = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0])
    made = OwnOrFused(MEAN, by="label")(two, weights, labels)
    expected = torch.tensor([[[0.3, 0.7], [0.880797, 0.119203]]] * 2)
    torch.testing.assert_close(made.targets, expected, atol=1e-5, rtol=0)
    assert made.metrics["taken_share"] == 0.5
    surest = OwnOrFused(BestSource(by="label"), by="label")(two, torch.full((2, 2), 0.5), labels)
    torch.testing.assert_close(surest.targets, expected, atol=1e-5, rtol=0)
    assert OwnOrFused(MEAN, by="label").needs_labels
    assert OwnOrFused(BestSource(by="label")).needs_labels
    assert not OwnOrFused(BestSource()).needs_labels


@pytest.mark.parametrize("by", ["max_prob", "label"])
def test_B3_own_wins_a_tie_with_any_number_of_others_whatever_rounding_does(by):
    """A mean of equals, rounded up, would be surer than each of them."""
    drawn = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)).abs()
    logits = torch.stack(
        [torch.cat([drawn[:, :1] + 3, drawn[:, 1:].roll(j, 1)], 1) for j in range(3)]
    )
    seven = KnowledgeBank(
        torch.arange(7), logits.repeat(3, 1, 1)[:7], torch.ones(7, dtype=torch.int64)
    )
    own = seven.logits.softmax(-1)
    tie = own[..., 0] == own[..., 0].amax(dim=0)
    assert bool((tie.sum(dim=0) > 3).any())
    labels = torch.zeros(300, dtype=torch.int64)
    made = OwnOrFused(BestSource(by=by), by=by)(seven, torch.full((7, 7), 1 / 7), labels)
    assert torch.equal(made.targets[tie], own[tie])


def test_B3_a_receiver_alone_keeps_its_own_target():
    known = example_bank(3, 6, 4)
    for inner in (MEAN, BestSource(), GeometricMean()):
        made = OwnOrFused(inner)(known, torch.eye(3))
        torch.testing.assert_close(made.targets, known.logits.softmax(-1))


def test_B3_a_liar_scaled_down_never_gets_in_and_scaled_up_does():
    known = example_bank(4, 50, 6)
    lies = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))

    def taken(scale: float) -> torch.Tensor:
        logits = known.logits.clone()
        logits[3] = scale * lies
        sent = replace(known, logits=logits)
        made = OwnOrFused(BestSource())(sent, torch.full((4, 4), 0.25)).targets
        return (made[:3] == sent.logits.softmax(-1)[3]).all(dim=-1)

    assert not taken(0.01).any()
    assert taken(100.0).all()


def test_B3_a_probability_that_is_nothing_is_an_answer_and_a_hidden_one_is_none():
    none = torch.tensor([[[0.0, -200.0]], [[0.0, -300.0]]])  # both say 0 of class 1
    sent = KnowledgeBank(torch.arange(2), none, torch.ones(2, dtype=torch.int64))
    half, labels = torch.full((2, 2), 0.5), torch.tensor([1])
    made = BestSource(by="label")(sent, half, labels)
    torch.testing.assert_close(made, torch.tensor([[[1.0, 0.0]]] * 2))
    hidden = replace(sent, mask=torch.zeros(2, 1, dtype=torch.bool))
    made = BestSource(by="label")(hidden, half, labels)
    torch.testing.assert_close(made, torch.full((2, 1, 2), 0.5))


def test_B7_priors_come_off_and_go_on_again():
    shares = torch.tensor([[0.75, 0.25]])
    z = torch.tensor([[[math.log(3), 0.0]]])
    one = KnowledgeBank(torch.arange(1), z, torch.ones(1, dtype=torch.int64), shares)
    free = LogitAdjusted(MeanLogits())(one, torch.eye(1)).targets
    torch.testing.assert_close(free, torch.full((1, 1, 2), 1.386294), atol=1e-5, rtol=0)
    free = LogitAdjusted(MEAN)(one, torch.eye(1)).targets
    torch.testing.assert_close(free, torch.full((1, 1, 2), 0.5))
    half = LogitAdjusted(MeanLogits(), tau=0.5)(one, torch.eye(1)).targets
    torch.testing.assert_close(half, z - 0.5 * shares.log())
    again = LogitAdjusted(MEAN, personal=True)(one, torch.eye(1)).targets
    torch.testing.assert_close(again, torch.tensor([[[0.75, 0.25]]]))


@pytest.mark.parametrize("inner", [MeanProbabilities(), MeanLogits(), GeometricMean()], ids=repr)
def test_B7_without_tau_and_with_even_shares_it_is_the_inner_rule(inner):
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


def test_B7_pooled_logits_with_ones_own_prior_again_are_the_inner_rule_where_priors_are_equal():
    known = example_bank(3, 6, 4)
    alike = replace(known, class_distribution=known.class_distribution[:1].expand(3, -1))
    weights = torch.full((3, 3), 1 / 3)
    for inner in (MeanLogits(), GeometricMean(2.0)):
        made = LogitAdjusted(inner, personal=True, temperature=2.0)(alike, weights).targets
        torch.testing.assert_close(made, inner(alike, weights))


def test_B7_an_absent_class_counts_as_the_floor_and_the_receivers_prior_goes_on_what_is_fused():
    shares = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    two = bank([[0.9, 0.1]], [[0.4, 0.6]], shares=shares.tolist())
    prior = torch.tensor([[1.0, 0.01], [0.25, 0.75]]).log().unsqueeze(1)
    free = (two.logits - prior).mean(dim=0)
    half = torch.full((2, 2), 0.5)
    made = LogitAdjusted(MeanLogits(), floor=0.01)(two, half).targets
    torch.testing.assert_close(made, free.expand(2, -1, -1))
    again = LogitAdjusted(MeanLogits(), floor=0.01, personal=True)(two, half).targets
    torch.testing.assert_close(again, free + prior)
    probs = LogitAdjusted(MEAN, floor=0.01, personal=True, temperature=2.0)(two, half).targets
    fused = ((two.logits - prior) / 2).softmax(-1).mean(dim=0)
    torch.testing.assert_close(probs, (fused.log() + prior / 2).softmax(-1))


def test_B3_and_B7_the_inner_rule_fuses_at_the_same_temperature_and_a_filter_asks_without_it():
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


def test_B3_and_B7_what_is_impossible_is_refused():
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
    for part in (BestSource, lambda by: OwnOrFused(MEAN, by=by)):
        with pytest.raises(ParameterError, match=r"'by'.*got 'entropy'"):
            part(by="entropy")
    with pytest.raises(KnowledgeError, match="labels"):
        Pipeline(Uniform(), All(), OwnOrFused(MEAN, by="label"))(example_bank(2, 3, 2))
    with pytest.raises(KnowledgeError, match="share_class_distribution=true"):
        LogitAdjusted(MEAN)(bank([[0.5, 0.5]]), torch.eye(1))
