"""FedGEMS's ensemble by hand: who is right says the more the surer it is, and the wrong hardly."""

import math

import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.fusion.right_and_sure import RightAndSure, sureness
from fedfuse.testing.fusion import check_rule
from fedfuse.types import KnowledgeBank


def bank(*probs) -> KnowledgeBank:
    logits = torch.tensor(probs).log()
    return KnowledgeBank(torch.arange(len(logits)), logits, torch.ones(len(logits)).long())


def test_it_keeps_what_a_rule_promises():
    check_rule(RightAndSure())
    check_rule(RightAndSure(2.0, "probabilities"))


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def test_one_over_the_entropy_of_those_that_are_right_and_one_for_the_wrong():
    # Label 0: two are right, at 0.9 and 0.6; the third, sure of the other class, is wrong.
    said = bank([[0.9, 0.1]], [[0.6, 0.4]], [[0.01, 0.99]])
    shares = [math.exp(1 / entropy(0.9)), math.exp(1 / entropy(0.6)), 1.0]
    labels, alike = torch.tensor([0]), torch.full((1, 3), 1 / 3)
    by_probs = RightAndSure(average="probabilities")(said, alike, labels)
    mean = (0.9 * shares[0] + 0.6 * shares[1] + 0.01 * shares[2]) / sum(shares)
    assert by_probs[0, 0].tolist() == pytest.approx([mean, 1 - mean], abs=1e-6)
    by_logits = RightAndSure()(said, alike, labels)
    assert by_logits[0, 0, 0].item() == pytest.approx(
        sum(w * math.log(p) for w, p in zip(shares, (0.9, 0.6, 0.01), strict=True)) / sum(shares),
        abs=1e-5,
    )


def test_where_nobody_is_right_it_is_the_plain_mean_and_certainty_stays_finite():
    said = bank([[0.9, 0.1]], [[0.6, 0.4]])
    halves = torch.full((1, 2), 0.5)
    rule = RightAndSure(average="probabilities")
    mean = rule(said, halves, torch.tensor([1]))
    assert mean[0, 0].tolist() == pytest.approx([0.75, 0.25])
    certain = torch.tensor([[[200.0, 0.0]], [[1.0, 0.0]]])
    assert sureness(certain, torch.tensor([0])).isfinite().all()
    sure = KnowledgeBank(torch.arange(2), certain, torch.ones(2).long())
    assert rule(sure, halves, torch.tensor([0]))[0, 0, 0].item() == 1.0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: RightAndSure(0), "temperature"),
        (lambda: RightAndSure(average="logit"), "average.*Did you mean 'logits'"),
    ],
)
def test_settings_that_make_no_sense(wrong, says):
    with pytest.raises(ParameterError, match=says):
        wrong()
