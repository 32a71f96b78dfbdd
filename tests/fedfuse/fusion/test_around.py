"""Rules that read labels, know the round and remember: alone, in wrappers, at any temperature."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.fusion import All, MeanProbabilities, Pipeline, TopK, Uniform
from fedfuse.fusion.filters import AmbiguityFilter
from fedfuse.fusion.gate import OwnOrFused
from fedfuse.fusion.homeostatic import HomeostaticMix
from fedfuse.fusion.logit_adjusted import LogitAdjusted
from fedfuse.fusion.mix_by_round import MixByRound
from fedfuse.stateful import stateful_parts
from fedfuse.testing import CheckFailed, check_rule, example_bank
from fedfuse.types import Space

BANK = example_bank(4, 6, 3)
LABELS = torch.arange(6) % 3
WRAPPED = [
    *(lambda rule: rule, OwnOrFused, LogitAdjusted, HomeostaticMix, MixByRound),
    lambda rule: OwnOrFused(LogitAdjusted(rule)),
]


@dataclass
class Labelled:
    """The labels themselves."""

    temperature: float = 1.0
    seen: list[Any] = field(default_factory=list)
    needs_labels: ClassVar[bool] = True

    def __call__(self, bank: Any, weights: Any, labels: Tensor) -> Tensor:
        self.seen.append(labels)
        truth = torch.nn.functional.one_hot(labels, bank.num_classes).to(bank.logits)
        soft = (truth / self.temperature).softmax(-1)
        return soft.expand(bank.logits.shape).clone()


@dataclass(frozen=True)
class Rounds:
    """Notes which round it is of."""

    told: list[int] = field(default_factory=list)
    round: int = 0

    def at_round(self, round: int) -> Rounds:  # noqa: A002
        return Rounds(self.told, round)

    def __call__(self, bank: Any, weights: Any) -> Tensor:
        self.told.append(self.round)
        return MeanProbabilities()(bank, weights)

    space: ClassVar[Space] = Space.PROBABILITIES
    values = targets = staticmethod(lambda numbers: numbers)


@dataclass
class Counts:
    """Sharper every time it is asked."""

    temperature: float = 1.0
    asked: int = field(default=0, init=False)

    def __call__(self, bank: Any, weights: Any) -> Tensor:
        self.asked += 1
        sharper = replace(bank, logits=self.asked * bank.logits)
        return MeanProbabilities(self.temperature)(sharper, weights)

    def state(self) -> dict[str, Tensor]:
        return {"asked": torch.tensor(self.asked)}

    def restore(self, state: Any) -> None:
        self.asked = int(state["asked"])


def pipeline(rule: Any, **slots: Any) -> Pipeline:
    return Pipeline(**{"scorer": Uniform(), "neighbours": All(), "rule": rule, **slots})


@pytest.mark.parametrize("wrap", WRAPPED)
def test_labels_reach_a_rule_that_needs_them_and_no_other(wrap: Any) -> None:
    rule = Labelled()
    made = pipeline(wrap(rule))(BANK, LABELS).teachers.targets
    assert [seen.tolist() for seen in rule.seen] == [LABELS.tolist()]
    assert made.shape == BANK.logits.shape
    with pytest.raises(KnowledgeError, match=r"The rule \w+ needs the labels .*another rule"):
        pipeline(wrap(rule))(BANK)
    with pytest.raises(KnowledgeError, match="do not fit"):
        pipeline(wrap(rule))(BANK, LABELS[:2])
    pipeline(wrap(MeanProbabilities()))(BANK, LABELS)  # takes two arguments and gets two


def test_a_partial_of_a_function_may_need_labels() -> None:
    def rule(bank: Any, weights: Any, labels: Tensor, temperature: float) -> Tensor:
        return Labelled(temperature)(bank, weights, labels)

    rule.needs_labels = True  # type: ignore[attr-defined]
    bound = functools.partial(rule, temperature=2.0)
    made = pipeline(bound)(BANK, LABELS).teachers.targets
    torch.testing.assert_close(made, Labelled(2.0)(BANK, None, LABELS))
    check_rule(bound)
    inside = OwnOrFused(bound, temperature=3.0)(BANK, torch.eye(4), LABELS).targets
    own = (BANK.logits / 3).softmax(-1)
    fused = Labelled(3.0)(BANK, None, LABELS)
    expected = torch.where(fused.amax(-1, True) > own.amax(-1, True), fused, own)
    torch.testing.assert_close(inside, expected)


@pytest.mark.parametrize("wrap", WRAPPED)
def test_every_round_has_its_rule(wrap: Any) -> None:
    rule = Rounds()
    for round_ in (1, 2, 7):
        pipeline(wrap(rule))(BANK, round_=round_)
    assert rule.told == [1, 2, 7]
    check_rule(wrap(rule))
    assert set(rule.told[3:]) == {1}, "the check asks for the rule of round 1"


def test_neither_is_streamed() -> None:
    few = {"neighbours": TopK(1), "dense_bytes": 0}
    assert pipeline(MeanProbabilities(), **few)(BANK).weights.is_sparse
    rounds = Rounds()
    assert not pipeline(rounds, **few)(BANK, round_=3).weights.is_sparse
    assert rounds.told == [3], "the rule itself was called, and not its values"

    class Streaming(Labelled):
        space = Space.PROBABILITIES
        values = targets = staticmethod(lambda numbers: numbers)

    rule = Streaming()
    pipeline(rule, **few)(BANK, LABELS)
    assert len(rule.seen) == 1


def test_a_round_without_a_rule_is_said() -> None:
    class Nothing(Rounds):
        def at_round(self, round: int) -> Any:  # noqa: A002
            return None

    with pytest.raises(KnowledgeError, match=r"at_round of Nothing .*: got NoneType"):
        pipeline(Nothing())(BANK)


def test_a_filter_asks_at_temperature_1_with_the_labels() -> None:
    seen: list[Tensor] = []

    def keep(probs: Tensor) -> Tensor:
        seen.append(probs)
        return torch.ones(probs.shape[:2])

    pipeline(Labelled(4.0), filter=keep)(BANK, LABELS)
    torch.testing.assert_close(seen[0], Labelled(1.0)(BANK, None, LABELS))
    pipeline(OwnOrFused(Labelled(4.0), 4.0), filter=keep)(BANK, LABELS)
    torch.testing.assert_close(
        seen[1], OwnOrFused(Labelled(1.0))(BANK, torch.eye(4), LABELS).targets
    )


@pytest.mark.parametrize("wrap", [lambda rule: rule, lambda rule: OwnOrFused(rule, 2.0)])
def test_a_rule_that_remembers_steps_once_a_round_whoever_asks(wrap: Any) -> None:
    seen: list[Tensor] = []

    def keep(probs: Tensor) -> Tensor:
        seen.append(probs)
        return torch.ones(probs.shape[:2])

    rule, plain = Counts(4.0), Counts(4.0)
    for round_ in (1, 2):
        filtered = pipeline(wrap(rule), filter=keep)(BANK, round_=round_).teachers.targets
        assert torch.equal(filtered, pipeline(wrap(plain))(BANK, round_=round_).teachers.targets)
        assert (rule.asked, plain.asked) == (round_, round_)
    if rule is wrap(rule):
        mean = (2 * BANK.logits).softmax(-1).mean(0).expand(BANK.logits.shape)
        torch.testing.assert_close(seen[1], mean)


@pytest.mark.parametrize("wrap", WRAPPED)
def test_what_is_remembered_is_found_in_wrappers_and_goes_on(wrap: Any) -> None:
    rule = wrap(Counts())
    paths = list(stateful_parts({"combine": pipeline(rule)}))
    assert [path.startswith("combine.rule") for path in paths] == [True]
    check_rule(rule)


@pytest.mark.parametrize("name", ["needs_fixed_public_set", "needs_few_clients", "needs_labels"])
def test_what_the_inner_rule_needs_its_wrapper_needs(name: str) -> None:
    class Needs(Counts):
        pass

    assert not getattr(OwnOrFused(Needs()), name)
    setattr(Needs, name, True)
    assert getattr(OwnOrFused(LogitAdjusted(Needs())), name)


def test_the_check_finds_a_rule_that_forgets() -> None:
    class Forgets(Counts):
        def restore(self, state: Any) -> None:
            pass

    with pytest.raises(CheckFailed, match="goes on otherwise"):
        check_rule(Forgets())


def test_the_check_finds_a_rule_that_cannot_say_what_it_needs() -> None:
    class Shy(Labelled):
        needs_labels = "yes"

    with pytest.raises(CheckFailed, match="needs_labels='yes'"):
        check_rule(Shy())


def test_filters_still_ask_rules_without_a_temperature_once() -> None:
    rule = Rounds()
    pipeline(rule, filter=AmbiguityFilter(1.3))(BANK, round_=1)
    assert rule.told == [1]
