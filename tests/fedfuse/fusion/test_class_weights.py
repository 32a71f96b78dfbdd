"""Weights by class: two clients by hand, a slow reference, and what they share with pairs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse import fusion
from fedfuse.errors import ConfigError, KnowledgeError
from fedfuse.fusion import All, ClassWeights, Pipeline, TopK, weighted_mean
from fedfuse.fusion.class_scores import over_classes
from fedfuse.fusion.clusters import SampleClusters
from fedfuse.fusion.filters import AmbiguityFilter, unambiguous
from fedfuse.fusion.gate import BestSource, OwnOrFused
from fedfuse.fusion.logit_adjusted import LogitAdjusted
from fedfuse.fusion.per_sample import ConfidenceWeighted
from fedfuse.fusion.streaming import fuse_streaming
from fedfuse.fusion.weights import effective_neighbours, masked_softmax
from fedfuse.protocols import ClassScores
from fedfuse.testing import check_rule
from fedfuse.types import KnowledgeBank, Space

RULES = [fusion.MeanProbabilities(), fusion.GeometricMean(2.0), fusion.MeanLogits()]

# Client 0 counts 3 : 1 for the first class, both the same for the second, 1 : 3 for the third.
HAND = ClassScores(torch.zeros(2, 2), torch.tensor([[3.0, 1.0, 1.0], [1.0, 1.0, 3.0]]).log())
PROBS = torch.tensor([[[0.6, 0.3, 0.1]], [[0.2, 0.2, 0.6]]])
BANK = KnowledgeBank(torch.arange(2), PROBS.log(), torch.tensor([10, 20]))


def by_class(scores: object) -> Callable[..., Any]:
    """Return a scorer that returns these scores and says that they are by class."""

    def scorer(bank: KnowledgeBank, labels: Tensor | None) -> object:
        return scores

    scorer.by_class = True  # type: ignore[attr-defined]
    return scorer


def drawn(
    seed: int, num_clients: int, num_samples: int, num_classes: int, hidden: float = 0.0
) -> Any:
    """Return a bank, scores of pairs and by class, and whom each listens to."""
    generator = torch.Generator().manual_seed(seed)
    shape = num_clients, num_samples, num_classes
    mask = torch.rand(shape[:2], generator=generator) >= hidden
    logits = 2 * torch.randn(shape, generator=generator)
    if hidden:
        logits = torch.where(mask.unsqueeze(-1), logits, torch.nan)
    ones = torch.ones(num_clients, dtype=torch.int64)
    bank = KnowledgeBank(torch.arange(num_clients), logits, ones, mask=mask if hidden else None)
    pair = 2 * torch.randn(num_clients, num_clients, generator=generator)
    source = 2 * torch.randn(num_clients, num_classes, generator=generator)
    near = torch.rand(num_clients, num_clients, generator=generator) < 0.7
    return bank, ClassScores(pair, source), near | torch.eye(num_clients).bool()


def whole(scores: ClassScores) -> Tensor:
    return scores.pair.unsqueeze(2) + scores.source


def slow_weights(scores: Tensor, near: Tensor) -> Tensor:
    """Return w_ijc by loops, in float64."""
    weights = torch.zeros(scores.shape, dtype=torch.float64)
    for i in range(len(scores)):
        who = near[i].nonzero().flatten()
        over = scores[i, who].double().logsumexp(dim=1)
        plain = over.clamp_min(-1e300).softmax(dim=0)  # of sources scored on nothing: all alike
        for c in range(scores.shape[2]):
            column = scores[i, who, c].double()
            weights[i, who, c] = plain if bool((column == -torch.inf).all()) else column.softmax(0)
    return weights


def slow_fusion(bank: KnowledgeBank, weights: Tensor, values: Tensor) -> Tensor:
    """Return the mean of values by class over those who answered, by loops, in float64."""
    fused = torch.zeros(values.shape, dtype=torch.float64)
    for i in range(len(values)):
        for x in range(values.shape[1]):
            there = [j for j in range(len(values)) if bank.mask is None or bank.mask[j, x]]
            for c in range(values.shape[2]):
                mass = weights[i, there, c].sum()
                if mass > 0:
                    fused[i, x, c] = (weights[i, there, c] * values[there, x, c]).sum() / mass
    return fused


def slow_targets(bank: KnowledgeBank, weights: Tensor, rule: Any) -> Tensor:
    logits = bank.logits.double()
    if isinstance(rule, fusion.MeanLogits):
        return slow_fusion(bank, weights, logits)
    if isinstance(rule, fusion.GeometricMean):
        return slow_fusion(bank, weights, (logits / rule.temperature).log_softmax(-1)).softmax(-1)
    fused = slow_fusion(bank, weights, (logits / rule.temperature).softmax(-1))
    total = fused.sum(-1, keepdim=True)
    return torch.where(total > 0, fused / total.clamp_min(1e-300), 1 / fused.shape[-1])


def test_the_linear_pool_by_hand() -> None:
    # 3/4 0.6 + 1/4 0.2 = 0.5; (0.3 + 0.2) / 2 = 0.25; 1/4 0.1 + 3/4 0.6 = 0.475; sum 1.225.
    expected = torch.tensor([0.5, 0.25, 0.475]) / 1.225
    for scores in (HAND, whole(HAND)):
        fused = Pipeline(by_class(scores), All(), fusion.MeanProbabilities())(BANK)
        torch.testing.assert_close(fused.teachers.targets[:, 0], expected.repeat(2, 1))
        # The mean of 3/4, 1/2 and 1/4; each class's weights have the entropies of 3 : 1, 1 : 1.
        torch.testing.assert_close(fused.weights, torch.full((2, 2), 0.5))
        assert fused.by_class is not None
        shares = torch.tensor([[0.75, 0.5, 0.25], [0.25, 0.5, 0.75]])
        torch.testing.assert_close(fused.by_class.shares, shares)
        heard = (2 * 1.754765 + 2) / 3
        torch.testing.assert_close(fused.by_class.effective_neighbours, torch.full((2,), heard))


def test_the_log_linear_pool_by_hand() -> None:
    # 0.6^(3/4) 0.2^(1/4) = 0.455901; sqrt(0.3 0.2) = 0.244949; 0.1^(1/4) 0.6^(3/4) = 0.383366.
    expected = torch.tensor([0.455901, 0.244949, 0.383366]) / 1.084216
    fused = Pipeline(by_class(HAND), All(), fusion.GeometricMean())(BANK).teachers.targets
    torch.testing.assert_close(fused[:, 0], expected.repeat(2, 1), rtol=0, atol=1e-6)


def test_mean_logits_by_hand() -> None:
    bank = replace(BANK, logits=torch.tensor([[[1.0, 0.0, -1.0]], [[0.0, 2.0, -2.0]]]))
    fused = Pipeline(by_class(HAND), All(), fusion.MeanLogits())(bank).teachers
    assert fused.space is Space.LOGITS
    # 3/4 1 + 1/4 0; (0 + 2) / 2; 1/4 (-1) + 3/4 (-2).
    torch.testing.assert_close(fused.targets[0, 0], torch.tensor([0.75, 1.0, -1.75]))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_clients=st.integers(1, 7),
    num_samples=st.integers(1, 4),
    num_classes=st.sampled_from([2, 3, 6]),
    hidden=st.sampled_from([0.0, 0.4]),
    rule=st.sampled_from(RULES),
    unscored=st.sampled_from(["nothing", "class", "source", "some", "pairs"]),
    factored=st.booleans(),
    double=st.booleans(),
)
def test_agrees_with_a_slow_loop(
    seed: int,
    num_clients: int,
    num_samples: int,
    num_classes: int,
    hidden: float,
    rule: Any,
    unscored: str,
    factored: bool,
    double: bool,
) -> None:
    bank, scores, near = drawn(seed, num_clients, num_samples, num_classes, hidden)
    if unscored == "class":
        scores.source[:, 0] = -torch.inf
    elif unscored == "source":
        scores.source[1:2] = -torch.inf
    elif unscored == "some":
        scores.source[scores.source < -1] = -torch.inf
        scores.source[0, -1] = 0
    elif unscored == "pairs":
        scores.pair[~torch.eye(num_clients).bool()] -= 300  # underflows in both float types alone
        scores.source[0] += 200
    if double:
        bank = replace(bank, logits=bank.logits.double())
    given = scores if factored else whole(scores)
    fused = Pipeline(by_class(given), lambda _: near, rule)(bank)
    weights = slow_weights(whole(scores), near)
    torch.testing.assert_close(fused.weights.double(), weights.mean(2), rtol=1e-4, atol=1e-6)
    kept = fused.by_class
    torch.testing.assert_close(kept.shares.double(), weights.mean(0), rtol=1e-4, atol=1e-6)
    entropy = -torch.xlogy(weights, weights).sum(dim=1)
    heard = entropy.exp().mean(dim=1).float()
    torch.testing.assert_close(kept.effective_neighbours, heard, rtol=1e-4, atol=1e-4)
    counts = fused.teachers.sample_weight
    if unscored == "nothing" or not hidden:
        expected = slow_targets(bank, weights, rule)
        torch.testing.assert_close(fused.teachers.targets.double(), expected, rtol=1e-4, atol=2e-5)
    if counts is not None:
        assert bank.mask is not None
        heard_by = (near.float() @ bank.mask.float()) > 0
        assert (counts.bool() <= heard_by).all()
        if unscored in ("nothing", "class"):
            assert torch.equal(counts.bool(), heard_by)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_clients=st.integers(1, 7),
    hidden=st.sampled_from([0.0, 0.4]),
    rule=st.sampled_from(RULES),
)
def test_equal_columns_are_weights_of_pairs(
    seed: int, num_clients: int, hidden: float, rule: Any
) -> None:
    bank, scores, near = drawn(seed, num_clients, 3, 4, hidden)
    pairs = scores.pair + scores.source[:, 0]
    plain = Pipeline(lambda bank, labels: pairs, lambda _: near, rule)(bank)
    source = scores.source[:, :1].repeat(1, 4)
    for equal in (ClassScores(scores.pair, source), pairs.unsqueeze(2).repeat(1, 1, 4)):
        fused = Pipeline(by_class(equal), lambda _: near, rule)(bank)
        close = {"rtol": 1e-5, "atol": 1e-6}
        torch.testing.assert_close(fused.weights, plain.weights, **close)
        torch.testing.assert_close(
            fused.by_class.effective_neighbours,
            effective_neighbours(plain.weights),
            rtol=1e-4,
            atol=1e-5,
        )
        torch.testing.assert_close(
            fused.teachers.targets, plain.teachers.targets, rtol=1e-5, atol=1e-5
        )
        if hidden:
            assert torch.equal(fused.teachers.sample_weight, plain.teachers.sample_weight)


@pytest.mark.parametrize("hidden", [0.0, 0.4])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_masked_class_falls_back_on_those_who_answered(rule: Any, hidden: float) -> None:
    # Client 1 alone is scored on class 0 and answered only the first sample: on the second, class 0
    # is told by client 0, whom the other class's scores trust.
    scores = ClassScores(torch.zeros(2, 2), torch.tensor([[-torch.inf, 0.0], [0.0, 0.0]]))
    logits = torch.tensor([[[2.0, 1.0], [3.0, -1.0]], [[0.0, 1.0], [torch.nan, torch.nan]]])
    mask = torch.tensor([[True, True], [True, False]])
    bank = KnowledgeBank(torch.arange(2), logits, torch.tensor([1, 1]), mask=mask)
    fused = Pipeline(by_class(scores), All(), rule)(bank).teachers
    alone = rule(bank.rows(slice(0, 1)), torch.ones(1, 1))
    torch.testing.assert_close(fused.targets[:, 1], alone[:, 1].expand(2, -1))
    assert fused.sample_weight.tolist() == [[1, 1], [1, 1]]


def stretched(scores: ClassScores) -> ClassScores:
    """Return scores far beyond what products of two floats can tell."""
    return ClassScores(60 * scores.pair, -40 * scores.source)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("hidden", [0.0, 0.4])
@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("include_self", [True, False])
def test_streamed_equals_dense(rule: Any, hidden: float, stretch: bool, include_self: bool) -> None:
    bank, scores, _ = drawn(1, 60, 5, 4, hidden)
    scores = stretched(scores) if stretch else scores
    near = TopK(3, include_self)(over_classes(scores))
    index = near.nonzero()[:, 1].view(60, 3)
    few = ClassScores(scores.pair.gather(1, index), scores.source)
    few_weights = ClassWeights(few, torch.ones_like(index, dtype=torch.bool), index)
    dense = Pipeline(by_class(scores), lambda _: near, rule)(bank)
    close = {"rtol": 1e-5, "atol": 1e-5}
    for receivers in (60, 7):
        targets, counts = fuse_streaming(
            bank, index, few_weights, rule, samples=2, receivers=receivers
        )
        torch.testing.assert_close(targets, dense.teachers.targets, **close)
        if hidden:
            assert torch.equal(counts, dense.teachers.sample_weight)
    spread = torch.zeros(60, 60).scatter(1, index, few_weights.mean)
    torch.testing.assert_close(spread, dense.weights, **close)
    kept = few_weights.summary()
    torch.testing.assert_close(kept.shares, dense.by_class.shares, **close)
    torch.testing.assert_close(
        kept.effective_neighbours, dense.by_class.effective_neighbours, rtol=1e-4, atol=1e-4
    )


class Watched(ClassWeights):
    """Remember how many numbers of weights were ever made at a time."""

    most = 0

    def rows(self, receivers: Any) -> Tensor:
        made = super().rows(receivers)
        Watched.most = max(Watched.most, made.numel())
        return made


@pytest.mark.parametrize("factored", [True, False])
def test_weights_are_made_a_few_receivers_at_a_time(factored: bool) -> None:
    bank, scores, near = drawn(3, 9, 4, 5)
    scores = stretched(scores)
    several = Watched(scores if factored else whole(scores), near, block_bytes=4 * 2 * 9 * 5)
    at_once = replace(several, block_bytes=2**20)
    Watched.most = 0
    few = weighted_mean(bank.logits, several)
    torch.testing.assert_close(several.mean.sum(dim=1), torch.ones(9))
    shares = several.summary().shares
    assert 0 < Watched.most <= 2 * 9 * 5
    torch.testing.assert_close(few, weighted_mean(bank.logits, at_once))
    torch.testing.assert_close(several.mean, at_once.mean)
    torch.testing.assert_close(shares, at_once.summary().shares)
    assert Watched.most > 2 * 9 * 5


def test_neighbours_see_the_mean_over_the_classes() -> None:
    seen = []

    def neighbours(scores: Tensor) -> Tensor:
        seen.append(scores)
        return torch.ones_like(scores, dtype=torch.bool)

    for scores in (HAND, whole(HAND)):
        Pipeline(by_class(scores), neighbours, fusion.MeanProbabilities())(BANK)
    for scores in seen:
        torch.testing.assert_close(scores.exp(), torch.full((2, 2), 5 / 3))


def test_relabelling_clients_relabels_the_result() -> None:
    bank, scores, _ = drawn(5, 6, 4, 3, 0.3)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    moved_scores = ClassScores(scores.pair[order][:, order], scores.source[order])
    for rule in RULES:
        fused = Pipeline(by_class(scores), TopK(3), rule)(bank)
        moved = Pipeline(by_class(moved_scores), TopK(3), rule)(bank.rows(order))
        close = {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(moved.weights, fused.weights[order][:, order], **close)
        torch.testing.assert_close(moved.by_class.shares, fused.by_class.shares[order], **close)
        torch.testing.assert_close(
            moved.teachers.targets, fused.teachers.targets[order], rtol=1e-4, atol=1e-5
        )


def test_a_half_precision_bank_and_double_scores() -> None:
    bank, scores, _ = drawn(2, 5, 3, 4)
    half = replace(bank, logits=bank.logits.half())
    double = ClassScores(scores.pair.double(), scores.source.double())
    for rule in RULES:
        for scored in (double, whole(double)):
            fused = Pipeline(by_class(scored), All(), rule)(half)
            assert fused.teachers.targets.dtype == torch.float32
            assert fused.weights.dtype == torch.float32
            expected = Pipeline(by_class(scored), All(), rule)(bank).teachers.targets
            torch.testing.assert_close(fused.teachers.targets, expected, rtol=0, atol=5e-3)


def test_filter_and_sharpening_go_on_working() -> None:
    bank, scores, _ = drawn(2, 5, 6, 4, 0.3)
    fuse = Pipeline(
        by_class(scores),
        All(),
        fusion.MeanProbabilities(4.0),
        fusion.ERA(),
        AmbiguityFilter(1.0),
    )
    teachers = fuse(bank).teachers
    plain = replace(fuse, rule=fusion.MeanProbabilities(), sharpen=None, filter=None)(bank).teachers
    keep = unambiguous(plain.targets, 1.0) * plain.sample_weight
    assert torch.equal(teachers.sample_weight, keep)
    assert 0 < float(keep.mean()) < 1


WRONG = [
    (torch.zeros(2, 2, 4), r"did not return scores: got \[2, 2, 4\].*\[2, 2, 3\]"),
    (ClassScores(torch.zeros(2, 2), torch.zeros(2, 4)), r"by class: got \[2, 4\].*\[2, 3\]"),
    (ClassScores(torch.zeros(2), torch.zeros(2, 3)), r"of pairs: got \[2\]"),
    (ClassScores(torch.zeros(2, 2), torch.zeros(2, 3).long()), "int64"),
    (torch.zeros(2, 2, 3).index_fill(2, torch.tensor([1]), torch.nan), r"for the classes \[1\]"),
    (ClassScores(torch.zeros(2, 2), torch.tensor([[0.0, 0, torch.inf]] * 2)), r"classes \[2\]"),
    (ClassScores(torch.full((2, 2), torch.nan), torch.zeros(2, 3)), "NaN or \\+inf"),
]


@pytest.mark.parametrize(("scores", "message"), WRONG)
def test_scores_that_are_none_are_named(scores: object, message: str) -> None:
    with pytest.raises(KnowledgeError, match=message):
        Pipeline(by_class(scores), All(), fusion.MeanProbabilities())(BANK)


def test_a_scorer_says_that_it_scores_by_class() -> None:
    def silent(bank: KnowledgeBank, labels: Tensor | None) -> ClassScores:
        return HAND

    with pytest.raises(KnowledgeError, match=r"scorer silent scores every class.*by_class = True"):
        Pipeline(silent, All(), fusion.MeanProbabilities())(BANK)


def test_a_rule_that_cannot_weigh_by_class_is_refused_at_once() -> None:
    scorer = functools.partial(by_class(HAND))
    for rule in (ConfidenceWeighted(), SampleClusters()):
        with pytest.raises(ConfigError, match=r"rule has one weight.*rule=mean_probs"):
            Pipeline(scorer, All(), rule)


def test_rules_around_a_rule_weigh_by_class_if_it_can() -> None:
    inner = fusion.MeanProbabilities()
    sent = replace(BANK, class_distribution=torch.full((2, 3), 1 / 3))
    plain = Pipeline(by_class(HAND), All(), inner)(BANK).teachers.targets
    for rule in (LogitAdjusted(inner), OwnOrFused(inner)):
        check_rule(rule)
        fused = Pipeline(by_class(HAND), All(), rule)(sent).teachers.targets
        own = torch.where(plain.amax(-1, True) > PROBS.amax(-1, True), plain, PROBS)
        torch.testing.assert_close(fused, own if isinstance(rule, OwnOrFused) else plain)
    with pytest.raises(ConfigError, match="rule has one weight"):
        Pipeline(by_class(HAND), All(), OwnOrFused(BestSource()))


def test_weighted_mean_takes_both_kinds() -> None:
    _, scores, near = drawn(4, 4, 2, 3)
    values = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    weights = ClassWeights(scores, near)
    made = weights.rows(slice(None))
    torch.testing.assert_close(
        weighted_mean(values, weights), torch.einsum("ijc,jpc->ipc", made, values)
    )
    torch.testing.assert_close(made.sum(dim=1), torch.ones(4, 3))
    assert (made[~near] == 0).all()
    plain = masked_softmax(over_classes(scores), near)
    torch.testing.assert_close(weights.common, plain)
