"""Losses that know labels, sums of losses, relations: their examples and what they promise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedfuse.distill import (
    DIST,
    DKD,
    KL,
    OFA,
    APAtK,
    MAELogits,
    MSELogits,
    RelationGraph,
    Similarity,
    SoftCrossEntropy,
    WeightedSum,
    WithLabels,
)
from fedfuse.distill.ap_at_k import reciprocal_rank
from fedfuse.distill.dkd import decoupled
from fedfuse.distill.losses import kl_forward
from fedfuse.distill.ofa import enhanced
from fedfuse.distill.relations import dist, relation_graph, similarity
from fedfuse.errors import ConfigError, ParameterError
from fedfuse.testing import CheckFailed, check_distill_loss
from fedfuse.train.facts import Facts

T = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64)
Z = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
FIRST = Facts(labels=torch.tensor([0]))

KL_AND_REVERSE = {
    "forward": {"loss": KL()},
    "reverse": {"loss": KL(direction="reverse"), "weight": 0.5},
}


def near(got: Tensor, *expected: float) -> None:
    want = torch.tensor(expected, dtype=got.dtype)
    torch.testing.assert_close(got.reshape(-1), want, atol=1e-5, rtol=0)


def batch(num_classes: int = 5, size: int = 6) -> tuple[Tensor, Tensor, Facts]:
    """Return logits, targets and the labels of a batch, which the target names for some."""
    draw = torch.Generator().manual_seed(3)
    logits, teacher = torch.randn(2, size, num_classes, generator=draw, dtype=torch.float64)
    labels = torch.randint(num_classes, (size,), generator=draw)
    return logits, (2 * teacher).softmax(dim=1), Facts(labels=labels)


@pytest.mark.parametrize(
    "loss",
    [
        OFA(),
        OFA(epsilon=1.5, temperature=2.0),
        OFA(epsilon=0.5),
        DKD(),
        DKD(alpha=0, beta=0.5, temperature=1.0),
        APAtK(k=1),
        WithLabels(0.3, KL(temperature=2.0)),
        APAtK(k=3, base=KL(temperature=2.0)),
        APAtK(k=2, base=MSELogits()),
        APAtK(k=2, base=DKD()),
        APAtK(k=2, base=DIST()),
        WeightedSum(KL_AND_REVERSE),
        WeightedSum({"a": {"loss": MSELogits()}, "b": {"loss": MAELogits(), "weight": 0}}),
        WeightedSum({"a": {"loss": OFA(epsilon=1.5)}, "b": {"loss": DIST()}}),
        WeightedSum({"a": {"loss": APAtK(k=2)}, "b": {"loss": KL()}}),
        *(RelationGraph(tau, k) for tau, k in ((1.0, None), (0.1, 1), (1.0, 50))),
        RelationGraph(temperature=3.0),
        DIST(),
        DIST(beta=0.5, gamma=2.0, temperature=4.0),
        Similarity(),
        Similarity(temperature=2.0),
    ],
    ids=lambda loss: repr(loss)[:60],
)
def test_A4_A6_A7_A9_A10_the_losses_keep_their_promises(loss: Any) -> None:
    check_distill_loss(loss)


def test_A4_the_example() -> None:
    t = torch.tensor([[0.75, 0.25]], dtype=torch.float64)
    near(WeightedSum(KL_AND_REVERSE)(torch.zeros_like(t), t), 0.202733)
    near(WeightedSum({"forward": KL_AND_REVERSE["forward"]})(torch.zeros_like(t), t), 0.130812)


def test_A4_one_term_of_weight_1_is_that_loss_to_the_bit() -> None:
    logits, targets, facts = batch()
    one = WeightedSum({"kl": {"loss": KL()}})
    assert torch.equal(one(logits, targets), KL()(logits, targets))
    told = WeightedSum({"dkd": {"loss": DKD()}})
    assert torch.equal(told(logits, targets, facts), DKD()(logits, targets, facts))


def test_A4_it_is_what_its_terms_are() -> None:
    plain = WeightedSum(KL_AND_REVERSE)
    assert (plain.wants, plain.relational, plain.batchable) == (frozenset(), False, True)
    assert {plain: 1}[WeightedSum(dict(KL_AND_REVERSE))] == 1  # a cohort shares an equal loss
    mixed = WeightedSum({"a": {"loss": APAtK(k=4)}, "b": {"loss": OFA(1.5)}, "c": {"loss": DIST()}})
    assert mixed.wants == {"labels"}
    assert (mixed.relational, mixed.batchable) == (True, False)
    assert not mixed.pseudo_labels, "one of its terms cannot do without the public labels"
    assert not mixed.least_where_agreeing
    assert mixed.min_classes == 4
    assert WeightedSum({"a": {"loss": OFA()}, "b": {"loss": KL()}}).pseudo_labels
    hot = KL(temperature=3.0)
    assert WeightedSum({"a": {"loss": hot}}).temperature == 3.0


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({}, "one or more"),
        (3, "one or more"),
        ({"a": KL()}, "a loss, and a weight or none"),
        ({"a": {"loss": KL(), "wieght": 1}}, "a loss, and a weight or none"),
        ({"a": {"loss": KL(), "weight": 0}}, "above 0"),
        ({"a": {"loss": KL(), "weight": -1}}, "at least 0"),
        ({"a": {"loss": KL(), "weight": True}}, "at least 0"),
        ({"a": {"loss": KL()}, "b": {"loss": MSELogits()}}, "losses of one space"),
        ({"a": {"loss": KL()}, "b": {"loss": KL(2.0)}}, r"a: 1.0, b: 2.0.*one temperature"),
    ],
)
def test_A4_what_cannot_be_summed(terms: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        WeightedSum(terms)


def test_A6_the_example() -> None:
    near(OFA()(Z, T, FIRST), 0.970406)
    near(enhanced(T, torch.tensor([0]), 1.5)[0], 1.023858, 0.164317, 0.031623)
    near(OFA(epsilon=1.5)(Z, T, FIRST), 0.981314)


def test_A6_epsilon_1_is_the_soft_cross_entropy_for_every_label() -> None:
    logits, targets, facts = batch()
    assert facts.labels is not None
    for shift in range(5):
        told = Facts(labels=(facts.labels + shift) % 5)
        got = OFA(temperature=2.0)(logits, targets, told)
        torch.testing.assert_close(got, SoftCrossEntropy(2.0)(logits, targets))


def test_A6_an_unknown_label_raises_nothing_and_the_minimum_is_elsewhere() -> None:
    torch.testing.assert_close(enhanced(T, torch.tensor([-1]), 1.5), T**1.5)
    best = enhanced(T, torch.tensor([0]), 1.5)
    best = best / best.sum()
    loss = OFA(epsilon=1.5)
    assert float(loss(best.log(), T, FIRST)) < float(loss(T.log(), T, FIRST))
    with pytest.raises(CheckFailed, match="disagrees with its teacher"):
        check_distill_loss(_Pretending())


class _Pretending:
    """OFA that does not say where it is least."""

    wants = frozenset({"labels"})

    def __call__(self, student_logits: Tensor, targets: Tensor, facts: Facts) -> Tensor:
        return OFA(epsilon=3.0)(3 * student_logits, targets, facts)


@pytest.mark.parametrize("epsilon", [0, -1, float("nan"), True])
def test_A6_epsilon_is_above_0(epsilon: Any) -> None:
    with pytest.raises(ParameterError, match="'epsilon' parameter of OFA"):
        OFA(epsilon=epsilon)


def test_A7_the_example() -> None:
    first, second = decoupled(Z, T, torch.tensor([0]))
    near(first, 0.020136)
    near(second, 0.130812)
    near(DKD(1.0, 0.5, 1.0)(Z, T, FIRST), 0.085542)
    near(DKD(1.0, 8.0, 1.0)(Z, T, FIRST), 1.066632)
    near(DKD(1.0, 8.0, 4.0)(4 * Z, T, FIRST), 16 * 1.066632)


def test_A7_with_the_rest_of_the_target_as_beta_it_is_kl() -> None:
    logits, targets, facts = batch()
    assert facts.labels is not None
    first, second = decoupled(logits, targets, facts.labels)
    rest = 1 - targets.gather(1, facts.labels[:, None])[:, 0]
    torch.testing.assert_close(first + rest * second, kl_forward(logits, targets))
    near(DKD(1.0, 0.4, 1.0)(Z, T, FIRST), 0.072460)


def test_A7_edges() -> None:
    sure = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    first, second = decoupled(Z, sure, torch.tensor([0]))
    near(first, 0.693147)
    near(second, 0.0)
    first, second = decoupled(Z, T, torch.tensor([-1]))  # unknown: all classes are the others
    near(first, 0.0)
    near(second, 0.072460)
    with pytest.raises(ConfigError, match=r"DKD.*got 2 classes, allowed: 3 or more"):
        DKD()(torch.zeros(1, 2), torch.full((1, 2), 0.5), FIRST)


def test_A9_the_example() -> None:
    targets = torch.tensor([[0.5, 0.3, 0.2]] * 3)
    factor = reciprocal_rank(targets, torch.tensor([0, 1, 2]), 2)
    near(factor, 1.0, 0.5, 0.0)
    assert float(factor.mean()) == 0.5
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    got = APAtK(k=2, base=KL(2.0))(logits, targets, Facts(labels=torch.tensor([0, 1, 2])))
    torch.testing.assert_close(got, factor * 4 * kl_forward(logits, targets, 2.0))


def test_A9_k_1_distils_only_where_the_teacher_is_right() -> None:
    logits, targets, facts = batch()
    right = targets.argmax(dim=1) == facts.labels
    assert 0 < int(right.sum()) < len(right)
    losses = APAtK(k=1)(logits, targets, facts)
    assert torch.equal(losses > 0, right)
    always = Facts(labels=targets.argmax(dim=1))
    for k in (1, 3):
        assert torch.equal(APAtK(k=k)(logits, targets, always), KL()(logits, targets))


def test_A9_ties_and_unknown_labels() -> None:
    tied = torch.tensor([[0.4, 0.4, 0.2]] * 2)
    near(reciprocal_rank(tied, torch.tensor([1, 2]), 3), 1.0, 1 / 3)
    near(reciprocal_rank(tied, torch.tensor([-1, -1]), 3), 0.0, 0.0)
    assert not APAtK.pseudo_labels  # the target's own class is always first: it would be plain KL
    with pytest.raises(ConfigError, match=r"4 ranks.*got 3 classes, allowed: 4 or more"):
        APAtK(k=4)(torch.zeros(2, 3), tied, Facts(labels=torch.tensor([0, 1])))
    with pytest.raises(ParameterError, match="'k' parameter of APAtK"):
        APAtK(k=0)


def moody(student_logits: Tensor, targets: Tensor, facts: Facts) -> Tensor:
    assert facts.prior is not None
    return KL()(student_logits + facts.prior, targets)


moody.wants = frozenset({"prior"})  # type: ignore[attr-defined]
moody.floor = 2.0  # type: ignore[attr-defined]
moody.batchable = False  # type: ignore[attr-defined]


def test_A9_it_is_what_its_base_is() -> None:
    ranked = APAtK(k=2, base=moody)
    assert (ranked.wants, ranked.floor, ranked.batchable) == ({"labels", "prior"}, 2.0, False)
    assert not APAtK(base=OFA(1.5)).least_where_agreeing
    with pytest.raises(ParameterError, match=r"'base' parameter of APAtK.*a loss"):
        APAtK(base=3)  # type: ignore[arg-type]


TEACHER = torch.tensor([[1.0, 0], [1, 0], [0, 1]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0], [0, 1], [0, 1]], dtype=torch.float64)
SAID = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]], dtype=torch.float64)
OWN = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]], dtype=torch.float64)


def test_A10_the_examples() -> None:
    losses = relation_graph(STUDENT, TEACHER)
    near(losses, 0.110944, 0.462117, 0.120115)
    near(losses.mean(), 0.231059)
    near(dist(OWN, SAID, gamma=0.0).mean(), 0.011508)
    near(dist(OWN, SAID, beta=0.0), *[0.016636] * 3)
    near(similarity(TEACHER[:2], TEACHER[1:]).mean(), 1 - 0.5**0.5)
    near(Similarity()(OWN.log(), SAID), *similarity(OWN, SAID).tolist())
    near(Similarity(2.0)(2 * OWN.log(), SAID), *(4 * similarity(OWN, SAID)).tolist())


@pytest.mark.parametrize(
    "loss", [RelationGraph(), RelationGraph(neighbours=2), DIST(), Similarity()]
)
def test_A10_equal_rows_lose_nothing_and_nor_does_one_alone(loss: Any) -> None:
    _, targets, _ = batch()
    near(loss(targets.log(), targets), *[0.0] * 6)
    alone = torch.zeros(1, 5, requires_grad=True)
    loss(alone, targets[:1].float()).sum().backward()
    assert torch.equal(alone.grad, torch.zeros(1, 5))


def test_A10_similarity_does_not_see_a_rotation_of_all_rows() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 6, 4, generator=draw, dtype=torch.float64)
    turned, _ = torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.float64))
    torch.testing.assert_close(similarity(ours @ turned, theirs), similarity(ours, theirs))
    wide = torch.cat([theirs, theirs], dim=1)  # features of another size
    assert similarity(ours, wide).shape == (6,)


def test_A10_dist_does_not_see_a_positive_affine_map() -> None:
    near(dist(0.5 * SAID + 0.1, SAID), 0.0, 0.0, 0.0)
    rows = torch.tensor([[2.0], [2.0], [2.0]])
    near(dist(rows * SAID, SAID), 0.0, 0.0, 0.0)
    assert float(dist(1 - SAID, SAID).min()) > 1


def test_A10_a_class_that_does_not_vary_correlates_with_nothing() -> None:
    flat = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    near(dist(OWN, flat), 2.0, 2.0, 2.0)
    logits = OWN.log().requires_grad_()
    DIST()(logits, flat).sum().backward()
    assert bool(logits.grad.isfinite().all())


def test_A10_only_the_nearest_of_the_teacher_s_graph_count() -> None:
    logits, targets, _ = batch()
    probs = logits.softmax(dim=1)
    few, all_ = relation_graph(probs, targets, neighbours=1), relation_graph(probs, targets)
    near(few, *[0.0] * 6)  # one neighbour has all the weight in both graphs
    assert float(all_.min()) > 0
    near(
        relation_graph(STUDENT, TEACHER, neighbours=1),
        *[0.0, 0.0],
        0.0 + float(relation_graph(STUDENT, TEACHER)[2]),
    )  # the third's other rows tie, and both count
    for wrong in ({"tau": 0}, {"neighbours": 0}, {"temperature": -1}):
        with pytest.raises(ParameterError):
            replace(RelationGraph(), **wrong)


def test_labels_beside_a_teacher_in_shares():
    logits, said = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.75, 0.25]])
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    for share in (0.0, 0.25, 1.0):
        loss = WithLabels(share)(logits, said, Facts(labels=torch.tensor([1])))
        assert loss.item() == pytest.approx(share * math.log(2) + (1 - share) * kl, abs=1e-6)
    with pytest.raises(ParameterError, match="share"):
        WithLabels(1.5)
