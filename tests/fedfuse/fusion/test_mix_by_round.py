"""Own and fused mixed by the round: by hand, its ends, and what it passes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.fusion import MeanLogits, MeanProbabilities
from fedfuse.fusion.gate import OwnOrFused
from fedfuse.fusion.mix_by_round import MixByRound
from fedfuse.testing import check_rule, example_bank
from fedfuse.types import KnowledgeBank

MEAN = MeanProbabilities()


@pytest.mark.parametrize(
    "rule",
    [
        *(
            MixByRound(MEAN),
            MixByRound(MEAN, t_start=0.0, temperature=2.0),
            MixByRound(MeanLogits()),
        ),
        MixByRound(OwnOrFused(MEAN)).at_round(4),
    ],
    ids=repr,
)
def test_B8_rules_keep_their_promises(rule):
    check_rule(rule)


def two(own, other):
    ids = torch.arange(2)
    return KnowledgeBank(ids, torch.tensor([[own], [other]]), torch.ones(2, dtype=torch.int64))


def test_B8_the_target_by_hand():
    other = torch.tensor([0.7, 0.3]).log().tolist()
    weights = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    made = MixByRound(MEAN)(two([1.0, 0.0], other), weights)
    expected = torch.tensor([[0.718881, 0.281119]])
    torch.testing.assert_close(made.targets[0], expected, atol=1e-5, rtol=0)
    assert made.metrics["clock"] == 0.4


def test_B8_t_goes_with_the_round_from_own_to_the_inner_rule():
    bank, weights = example_bank(4, 6, 3), torch.full((4, 4), 0.25)
    rule = MixByRound(MEAN, t_start=0.0, ramp_rounds=4, warmup_rounds=2)
    shown = [rule.at_round(round_)(bank, weights).metrics["clock"] for round_ in range(1, 10)]
    assert shown == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1])
    first, last = (rule.at_round(round_)(bank, weights).targets for round_ in (3, 7))
    torch.testing.assert_close(first, bank.logits.softmax(dim=-1))
    hot = replace(rule, temperature=3.0).at_round(3)(bank, weights).targets
    torch.testing.assert_close(hot, (bank.logits / 3).softmax(dim=-1))
    assert torch.equal(last, MEAN(bank, weights))


def test_B8_at_its_end_it_is_the_inner_rule_at_any_temperature():
    bank, weights = example_bank(4, 6, 3), torch.full((4, 4), 0.25)
    rule = MixByRound(MEAN, t_start=1.0, temperature=3.0)
    assert torch.equal(rule(bank, weights).targets, MeanProbabilities(3.0)(bank, weights))


def test_B8_who_did_not_answer_gets_what_is_fused():
    mask = torch.tensor([[False], [True]])
    bank = replace(two([1.0, 0.0], [0.0, 3.0]), mask=mask)
    made = MixByRound(MEAN, t_start=0.0)(bank, torch.full((2, 2), 0.5))
    torch.testing.assert_close(made.targets[0], torch.tensor([[0.0, 3.0]]).softmax(dim=-1))


class Later:
    """A rule that knows the round."""

    def __init__(self, seen):
        self.seen = seen

    def at_round(self, round):  # noqa: A002
        self.seen.append(round)
        return MEAN

    def __call__(self, bank, weights):
        raise AssertionError("the rule of the round is asked, not this one")


def test_B8_the_inner_rule_is_that_of_the_round_too():
    seen = []
    bank, weights = example_bank(2, 3, 3), torch.full((2, 2), 0.5)
    rule = MixByRound(Later(seen), t_start=1.0).at_round(5)
    assert seen == [5]
    assert torch.equal(rule(bank, weights).targets, MEAN(bank, weights))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("t_start", -0.1), ("t_start", 2), ("t_end", 0.0), ("t_end", 0.2), ("ramp_rounds", 0)),
        *(("inner", "mean_probs"), ("warmup_rounds", -1), ("temperature", 0), ("round", -1)),
    ],
)
def test_B8_what_is_impossible_is_refused(name, value):
    with pytest.raises(ParameterError, match=f"'{name}' parameter of MixByRound"):
        replace(MixByRound(MEAN), **{name: value})
