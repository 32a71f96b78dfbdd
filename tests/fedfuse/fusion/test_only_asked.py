"""The weights form of requests, answers and wishes: E1 to E8 as an ablation that saves no bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.fusion import MeanLogits, MeanProbabilities, Pipeline
from fedfuse.fusion.gate import OwnOrFused
from fedfuse.fusion.neighbours import All
from fedfuse.fusion.only_asked import OnlyAsked
from fedfuse.fusion.scorers import Uniform
from fedfuse.request.jointly_confident import JointlyConfident
from fedfuse.stateful import collect, give_back
from fedfuse.testing import check_rule, example_bank
from fedfuse.types import Space


@dataclass
class Planted:
    """Asks for what it is given, and keeps what it is told."""

    wanted: Tensor
    noted: list[tuple[object, ...]] = field(default_factory=list)
    pseudo_labels: bool = True

    def __call__(self, round_: int, index: Tensor, client_ids: list[int]) -> Tensor:
        return self.wanted

    def note(self, *told: object) -> None:
        self.noted.append(told)


def even(own: Tensor, last: Tensor | None, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Answer the samples of even number; those that one was taught before, too."""
    chosen = torch.arange(len(own)) % 2 == 0
    return chosen if last is None else chosen | ~last[:, 0].isnan()


def own_row(own: Tensor, last: Tensor | None, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Answer the sample whose number is that of the first class one has."""
    return torch.arange(len(own)) == int((counts > 0).nonzero()[0])


def fused(rule: OnlyAsked, bank=None, labels=None):  # type: ignore[no-untyped-def]
    bank = example_bank(3, 6, 4) if bank is None else bank
    return Pipeline(Uniform(), All(), rule)(bank, labels, round_=1), bank


def test_E4_E5_E6_as_weights_targets_stay_and_what_is_not_asked_for_counts_0():
    part = Planted(torch.tensor([True, False, True, True, False, False]))
    made, bank = fused(OnlyAsked(MeanProbabilities(), request=part))
    plain, _ = fused(MeanProbabilities(), bank)  # type: ignore[arg-type]
    assert torch.equal(made.teachers.targets, plain.teachers.targets)
    assert made.teachers.sample_weight.tolist() == [[1, 0, 1, 1, 0, 0]] * 3
    assert made.metrics["taught_share"] == pytest.approx(0.5)
    ((told, teachers, labels, round_, index),) = part.noted
    assert told.mask is None  # of all samples, asked for or not
    assert torch.equal(teachers.targets, plain.teachers.targets)
    assert (labels, round_, index.tolist()) == (None, 1, list(range(6)))


def test_a_request_of_each_client_teaches_what_any_source_was_asked_for():
    rows = torch.tensor([[True, False, False], [False, True, False], [False, False, False]])
    part = Planted(rows)
    bank = example_bank(3, 3, 4)
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    made = OnlyAsked(MeanProbabilities(), request=part).at_round(2)(bank, weights)
    assert made.sample_weight.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_labels_go_to_a_request_only_if_it_is_said_so():
    labels = torch.arange(6) % 4
    for reads in (False, True):
        part = Planted(torch.ones(6) > 0)
        fused(OnlyAsked(MeanProbabilities(), request=part, reads_labels=reads), labels=labels)
        assert (part.noted[0][2] is None) is not reads
    with pytest.raises(KnowledgeError, match="labels"):
        fused(OnlyAsked(MeanProbabilities(), request=part, reads_labels=True))


@pytest.mark.parametrize(("reads", "pseudo_labels"), [(True, False), (False, True)])
def test_labels_of_the_inner_rule_are_not_the_requests(reads, pseudo_labels):
    part = Planted(torch.ones(6) > 0, pseudo_labels=pseudo_labels)
    rule = OnlyAsked(OwnOrFused(MeanProbabilities(), by="label"), part, reads_labels=reads)
    fused(rule, labels=torch.arange(6) % 4)
    assert part.noted[0][2] is None


def test_E3_E8_as_weights_a_wish_is_a_receivers_and_an_answer_its_sources():
    bank = example_bank(3, 4, 4)
    shares = torch.eye(4)[:3]
    bank = type(bank)(bank.client_ids, bank.logits, bank.num_examples, class_distribution=shares)
    wished, _ = fused(OnlyAsked(MeanProbabilities(), wish=own_row), bank)
    assert torch.equal(wished.teachers.sample_weight, shares)
    answered, _ = fused(OnlyAsked(MeanProbabilities(), answer=own_row), bank)
    assert answered.teachers.sample_weight.tolist() == [[1, 1, 1, 0]] * 3


def test_E3_E8_as_weights_need_to_know_how_many_samples_of_each_class_there_are():
    bank = example_bank(3, 4, 4)
    bank = type(bank)(bank.client_ids, bank.logits, bank.num_examples)
    rule = OnlyAsked(MeanProbabilities(), wish=even)
    assert rule.needs_class_distribution
    with pytest.raises(KnowledgeError, match="share_class_distribution"):
        fused(rule, bank)


def test_E3_E8_as_weights_know_what_was_taught_last_and_go_on_from_it():
    bank = example_bank(2, 4, 3)
    rule = OnlyAsked(MeanLogits(), answer=even)
    weights = torch.full((2, 2), 0.5)
    rule.at_round(1)(bank, weights)
    assert rule.taught.by_client[0][:, 0].isnan().tolist() == [False, True, False, True]
    other = OnlyAsked(MeanLogits(), answer=even)
    give_back({"rule": other}, collect({"rule": rule}))
    torch.testing.assert_close(other.taught.by_client, rule.taught.by_client, equal_nan=True)
    assert rule.space is Space.LOGITS


def test_E3_as_weights_compares_both_sides_at_one_temperature():
    bank = example_bank(2, 4, 3)
    rule = OnlyAsked(MeanLogits(), answer=even, temperature=4.0)
    made = rule.at_round(1)(bank, torch.full((2, 2), 0.5))
    kept = rule.taught.by_client[0]
    torch.testing.assert_close(kept[::2], made.targets[0, ::2] / 4)


def test_E4_as_weights_asks_by_all_answers_where_the_request_asks_by_those_it_got():
    bank = example_bank(3, 8, 4)
    weights = torch.full((3, 3), 1 / 3)
    rule = OnlyAsked(MeanProbabilities(), request=JointlyConfident(share=0.5))
    first = rule.at_round(1)(bank, weights)
    assert first.sample_weight.sum() == 3 * 8
    assert rule.at_round(2)(bank, weights).sample_weight.sum(dim=1).tolist() == [4, 4, 4]
    flat = type(bank)(bank.client_ids, 0 * bank.logits, bank.num_examples)
    rule.at_round(3)(flat, weights)  # nobody is sure of anything any more, which all is asked about
    assert rule.request.memory["confidence"].tolist() == pytest.approx([0.25] * 8)


@pytest.mark.parametrize("space", ["probabilities", "logits"])
def test_it_keeps_the_promises_of_a_rule(space):
    inner = MeanLogits() if space == "logits" else MeanProbabilities()
    check_rule(OnlyAsked(inner, request=JointlyConfident(), answer=even, wish=even))


@pytest.mark.parametrize(
    "wrong", [{"request": 3}, {"reads_labels": 1}, {"seed": -1}, {"temperature": 0}, {"wish": "x"}]
)
def test_it_refuses_what_is_impossible(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        OnlyAsked(MeanProbabilities(), **wrong)
