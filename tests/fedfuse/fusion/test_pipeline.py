"""The whole fusion: three clients by hand, the invariants of the method, and named mistakes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse import fusion
from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.fusion import Pipeline
from fedfuse.fusion.sharpen import identity
from fedfuse.fusion.weights import effective_neighbours
from fedfuse.types import KnowledgeBank, Space

KNFU = Pipeline(fusion.KnFu(beta=10.0), fusion.All(), fusion.MeanProbabilities())
MEAN = Pipeline(fusion.Uniform(), fusion.All(), fusion.MeanProbabilities())


def make_bank(
    seed: int, num_clients: int, num_samples: int, num_classes: int = 5, masked: bool = False
) -> KnowledgeBank:
    """Return random knowledge in which clients lean toward different classes."""
    generator = torch.Generator().manual_seed(seed)
    leaning = 2 * torch.randn(num_clients, 1, num_classes, generator=generator)
    logits = leaning + torch.randn(num_clients, num_samples, num_classes, generator=generator)
    mask = torch.rand(num_clients, num_samples, generator=generator) < 0.6
    return KnowledgeBank(
        client_ids=torch.arange(num_clients),
        logits=logits,
        num_examples=torch.randint(1, 100, (num_clients,), generator=generator),
        class_distribution=leaning.squeeze(1).softmax(dim=1),
        mask=mask if masked else None,
    )


banks = st.builds(
    make_bank,
    seed=st.integers(0, 10_000),
    num_clients=st.integers(1, 12),
    num_samples=st.integers(1, 30),
    num_classes=st.sampled_from([2, 5, 20]),
)

# Every client predicts its own EPD on the only sample: (1/2, 1/2), (1/4, 3/4), (1/8, 7/8).
PROBS = torch.tensor([[[1 / 2, 1 / 2]], [[1 / 4, 3 / 4]], [[1 / 8, 7 / 8]]])
BANK = KnowledgeBank(torch.arange(3), PROBS.log(), torch.tensor([10, 20, 70]))


def test_knfu_by_hand() -> None:
    # Row 0: KL 0, 0.143841, 0.413340; e^(-10 d) = 1, 0.237305, 0.016023, sum 1.253328.
    # Row 1: KL 0.130812, 0, 0.057674; 0.270328, 1, 0.561728, sum 1.832056.
    # Row 2: KL 0.316377, 0.048238, 0; 0.042264, 0.617309, 1, sum 1.659573.
    weights = torch.tensor(
        [
            [0.797876, 0.189340, 0.012784],
            [0.147554, 0.545835, 0.306611],
            [0.025467, 0.371969, 0.602565],
        ]
    )
    # First class: 0.797876/2 + 0.189340/4 + 0.012784/8 = 0.447871, and so on.
    first = torch.tensor([0.447871, 0.248562, 0.181046])
    fused = KNFU(BANK)
    torch.testing.assert_close(fused.weights, weights, rtol=0, atol=5e-6)
    torch.testing.assert_close(fused.teachers.targets[:, 0, 0], first, rtol=0, atol=5e-6)
    assert fused.teachers.space is Space.PROBABILITIES
    assert fused.teachers.sample_weight is None


def test_only_the_receivers_own_choice_counts() -> None:
    # Of the exponentials above each row keeps its two largest. 0 listens to 1, which does not
    # listen back: 1 : 0.237305, 1 : 0.561728 and 0.617309 : 1.
    expected = torch.tensor(
        [[0.808208, 0.191792, 0], [0, 0.640316, 0.359684], [0, 0.381689, 0.618311]]
    )
    fused = replace(KNFU, neighbours=fusion.TopK(2))(BANK)
    torch.testing.assert_close(fused.weights, expected, rtol=0, atol=5e-6)


def test_dsfl_by_hand() -> None:
    # Mean of the first class: (4 + 2 + 1) / 24 = 7/24; ERA: e^(70/24) : e^(170/24), so
    # 1 / (1 + e^(100/24)) = 0.015267. Power: 49 : 289 = 49/338.
    dsfl = replace(MEAN, sharpen=fusion.ERA())(BANK).teachers
    torch.testing.assert_close(dsfl.targets[:, 0, 0], torch.full((3,), 0.015267), rtol=0, atol=1e-6)
    scarlet = replace(MEAN, sharpen=fusion.Power())(BANK).teachers
    torch.testing.assert_close(scarlet.targets[:, 0, 0], torch.full((3,), 49 / 338))


def test_fedmd_by_hand() -> None:
    # Mean logit of the first class: log(1/2 * 1/4 * 1/8) / 3 = -2 log 2.
    fedmd = Pipeline(fusion.Uniform(), fusion.All(), fusion.MeanLogits())(BANK)
    assert fedmd.teachers.space is Space.LOGITS
    torch.testing.assert_close(fedmd.teachers.targets[:, 0, 0], torch.full((3,), -2 * math.log(2)))
    torch.testing.assert_close(fedmd.weights, torch.full((3, 3), 1 / 3))


def test_logits_become_probabilities_before_sharpening() -> None:
    logits = Pipeline(fusion.Uniform(), fusion.All(), fusion.MeanLogits())
    sharpened = replace(logits, sharpen=identity)(BANK).teachers
    assert sharpened.space is Space.PROBABILITIES
    torch.testing.assert_close(sharpened.targets, logits(BANK).teachers.targets.softmax(-1))


def _reference(bank: KnowledgeBank, beta: float) -> tuple[Tensor, Tensor]:
    """Return KnFu's weights and teachers by loops over pairs, in float64."""
    probs = bank.logits.double().softmax(-1)
    num_clients = bank.num_clients
    epds = torch.stack(
        [
            probs[k][bank.mask[k]].mean(0)
            if bank.mask is not None and bank.mask[k].any()
            else (
                probs[k].mean(0)
                if bank.mask is None
                else torch.full_like(probs[k, 0], 1 / probs.shape[-1])
            )
            for k in range(num_clients)
        ]
    )
    weights = torch.zeros(num_clients, num_clients, dtype=torch.float64)
    targets = torch.full(probs.shape, 1 / probs.shape[-1], dtype=torch.float64)
    for i in range(num_clients):
        for j in range(num_clients):
            weights[i, j] = math.exp(-beta * float((epds[i] * (epds[i] / epds[j]).log()).sum()))
        weights[i] /= weights[i].sum()
        for x in range(probs.shape[1]):
            who = [j for j in range(num_clients) if bank.mask is None or bank.mask[j, x]]
            mass = sum(float(weights[i, j]) for j in who)
            if mass > 0:
                targets[i, x] = sum(float(weights[i, j]) / mass * probs[j, x] for j in who)
    return weights, targets


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_clients=st.integers(1, 12),
    num_samples=st.integers(1, 30),
    masked=st.booleans(),
    beta=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_agrees_with_a_slow_loop(
    seed: int, num_clients: int, num_samples: int, masked: bool, beta: float
) -> None:
    bank = make_bank(seed, num_clients, num_samples, masked=masked)
    weights, targets = _reference(bank, beta)
    fused = replace(KNFU, scorer=fusion.KnFu(beta=beta))(bank)
    torch.testing.assert_close(fused.weights, weights.float(), rtol=1e-4, atol=1e-5)
    answered = fused.teachers.sample_weight
    if answered is not None:
        assert bank.mask is not None
        # Dense weights: a sample counts unless nobody at all answered it (or only by underflow).
        assert (answered <= bank.mask.any(dim=0).float()).all()
        targets = torch.where(answered.bool().unsqueeze(-1), targets, 1 / bank.num_classes)
    torch.testing.assert_close(fused.teachers.targets, targets.float(), rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(bank=banks)
def test_beta_zero_is_the_plain_mean_to_the_bit(bank: KnowledgeBank) -> None:
    for rule in (fusion.MeanProbabilities(), fusion.MeanLogits(), fusion.GeometricMean()):
        zero = Pipeline(fusion.KnFu(beta=0), fusion.All(), rule)(bank)
        mean = Pipeline(fusion.Uniform(), fusion.All(), rule)(bank)
        assert torch.equal(zero.weights, mean.weights)
        assert torch.equal(zero.teachers.targets, mean.teachers.targets)
    probs = bank.logits.softmax(-1)
    plain = MEAN(bank).teachers.targets
    torch.testing.assert_close(plain, probs.mean(0).expand_as(probs), rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(bank=banks)
def test_a_very_large_beta_is_self_distillation(bank: KnowledgeBank) -> None:
    # 1e6 separates clients whose KL is above 1e-4; the made-up ones lean much further apart.
    bank = replace(
        bank, logits=bank.logits + 3 * torch.eye(bank.num_clients, bank.num_classes).unsqueeze(1)
    )
    if bank.num_clients > 1:
        divergences = fusion.divergences.kl(fusion.KnFu().estimate(bank, None))
        off = divergences[~torch.eye(bank.num_clients).bool()]
        assume(off.min() > 1e-3)
    fused = replace(KNFU, scorer=fusion.KnFu(beta=1e6))(bank)
    assert torch.equal(fused.weights, torch.eye(bank.num_clients))
    own = bank.logits.softmax(-1)
    torch.testing.assert_close(fused.teachers.targets, own, rtol=0, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(bank=banks, divergence=st.sampled_from(sorted(fusion.divergences.DIVERGENCES)))
def test_equal_clients_are_fused_uniformly(bank: KnowledgeBank, divergence: str) -> None:
    same = replace(bank, logits=bank.logits[:1].expand_as(bank.logits))
    fused = replace(KNFU, scorer=fusion.KnFu(divergence=divergence))(same)
    k = bank.num_clients
    torch.testing.assert_close(fused.weights, torch.full((k, k), 1 / k))
    torch.testing.assert_close(fused.teachers.targets, same.logits.softmax(-1))


@settings(max_examples=25, deadline=None)
@given(
    bank=banks,
    neighbours=st.sampled_from(
        [fusion.All(), fusion.All(False), fusion.TopK(3), fusion.TopP(0.8), fusion.Mutual(3)]
    ),
    rule=st.sampled_from(
        [fusion.MeanProbabilities(2), fusion.MeanLogits(), fusion.GeometricMean()]
    ),
)
def test_relabelling_clients_relabels_the_result(
    bank: KnowledgeBank, neighbours: Any, rule: Any
) -> None:
    fuse = Pipeline(fusion.KnFu(), neighbours, rule)
    order = torch.randperm(bank.num_clients, generator=torch.Generator().manual_seed(0))
    fused, moved = fuse(bank), fuse(bank.rows(order))
    expected = fused.weights[order][:, order]
    torch.testing.assert_close(moved.weights, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(moved.teachers.client_ids, order)
    torch.testing.assert_close(
        moved.teachers.targets, fused.teachers.targets[order], rtol=1e-4, atol=1e-5
    )
    ones = torch.ones(bank.num_clients)
    torch.testing.assert_close(fused.weights.sum(dim=1), ones)
    assert (effective_neighbours(fused.weights) <= bank.num_clients * (1 + 1e-5)).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(1, 12))
def test_samples_that_nobody_answered_do_not_count(seed: int, num_clients: int) -> None:
    bank = make_bank(seed, num_clients, 6, masked=True)
    assert bank.mask is not None
    bank.mask[:, 0], bank.mask[:, 1] = False, True
    for sharpen in (None, fusion.ERA(), fusion.Power()):
        teachers = replace(MEAN, sharpen=sharpen)(bank).teachers
        assert torch.equal(
            teachers.sample_weight, bank.mask.any(dim=0).float().expand(num_clients, -1)
        )
        torch.testing.assert_close(teachers.targets[:, 0], torch.full((num_clients, 5), 0.2))


def test_nothing_is_recorded_for_gradients() -> None:
    bank = replace(BANK, logits=BANK.logits.clone().requires_grad_())
    fused = KNFU(bank)
    assert not fused.teachers.targets.requires_grad
    assert not fused.weights.requires_grad


def test_only_a_scorer_that_says_so_sees_labels() -> None:
    seen: list[Tensor | None] = []

    def scorer(bank: KnowledgeBank, labels: Tensor | None, scale: float = 1.0) -> Tensor:
        seen.append(labels)
        return bank.logits.new_zeros(3, 3)

    labels = torch.tensor([1])
    replace(MEAN, scorer=scorer)(BANK, labels)
    scorer.needs_labels = True  # type: ignore[attr-defined]
    replace(MEAN, scorer=scorer)(BANK, labels)
    replace(MEAN, scorer=functools.partial(scorer, scale=2.0))(BANK, labels)
    assert [None if s is None else s.tolist() for s in seen] == [None, [1], [1]]
    with pytest.raises(KnowledgeError, match="scorer scorer needs the labels"):
        replace(MEAN, scorer=scorer)(BANK)


@pytest.mark.parametrize("labels", [[0, 1], [2], [-1]])
def test_labels_that_do_not_fit_are_refused(labels: list[int]) -> None:
    fuse = replace(KNFU, scorer=fusion.KnFu("prior_corrected"))
    with pytest.raises(KnowledgeError, match="1 labels from 0 to 1"):
        fuse(BANK, torch.tensor(labels))


def test_plain_functions_work_everywhere() -> None:
    def nearest_id(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
        ids = bank.client_ids.float()
        return -(ids - ids.unsqueeze(1)).abs()

    def others(scores: Tensor) -> Tensor:
        return ~torch.eye(len(scores), dtype=torch.bool)

    def loudest(bank: KnowledgeBank, weights: Tensor) -> Tensor:
        return bank.logits[weights.argmax(dim=1)].softmax(-1)

    fused = Pipeline(nearest_id, others, loudest, lambda probs: probs.flip(-1))(BANK)
    assert fused.teachers.space is Space.PROBABILITIES
    torch.testing.assert_close(fused.teachers.targets, PROBS[[1, 0, 1]].flip(-1))


def test_minus_infinity_is_a_weight_of_zero() -> None:
    def never_the_last(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
        scores = bank.logits.new_zeros(3, 3)
        scores[:, 2] = -torch.inf
        return scores

    fused = replace(MEAN, scorer=never_the_last)(BANK)
    torch.testing.assert_close(fused.weights, torch.tensor([[0.5, 0.5, 0.0]] * 3))


WRONG: list[tuple[str, Callable[..., object], str]] = [
    ("scorer", lambda bank, labels: torch.zeros(3, 2), r"scorer <lambda>.*float.*\[3, 3\]"),
    ("scorer", lambda bank, labels: torch.zeros(3, 3).long(), "int64.*float tensor"),
    ("scorer", lambda bank, labels: None, "a NoneType"),
    ("scorer", lambda bank, labels: torch.full((3, 3), torch.nan), "NaN"),
    ("scorer", lambda bank, labels: torch.full((3, 3), torch.inf), "inf"),
    ("neighbours", lambda scores: scores, "neighbours <lambda>.*float32.*bool tensor"),
    ("neighbours", lambda scores: scores[:1] > -1, r"bool tensor of shape \[3, 3\]"),
    ("neighbours", lambda scores: torch.eye(3)[[0, 0, 0]] * 0 > 0, "keep itself"),
    ("rule", lambda bank, weights: bank.logits[:, 0], r"rule <lambda>.*\[3, 1, 2\]"),
    ("rule", lambda bank, weights: bank.logits / 0, "NaN or infinite"),
    (
        "rule",
        lambda bank, weights: 5 * bank.logits,
        "rule <lambda> did not return probabilities.*declare space = Space.LOGITS",
    ),
    ("sharpen", lambda probs: probs[0], r"sharpening <lambda>.*\[3, 1, 2\]"),
    ("sharpen", lambda probs: probs * 2, "away from 1"),
    ("sharpen", lambda probs: probs * torch.nan, "away from 1"),
    ("sharpen", lambda probs: torch.tensor([2.0, -1.0]).expand(3, 1, 2), "smallest value of -1"),
]


@pytest.mark.parametrize(("slot", "part", "message"), WRONG)
def test_a_part_that_returns_nonsense_is_named(
    slot: str, part: Callable[..., object], message: str
) -> None:
    fuse = replace(KNFU, **{slot: part})  # type: ignore[arg-type]
    with pytest.raises(KnowledgeError, match=message):
        fuse(BANK)


def test_what_cannot_be_called_is_no_part() -> None:
    for slot in ("scorer", "neighbours", "rule", "sharpen"):
        with pytest.raises(ParameterError, match=f"'{slot}' parameter of Pipeline"):
            replace(KNFU, **{slot: "all"})  # type: ignore[arg-type]


def test_who_writes_into_the_predictions_is_named() -> None:
    bank = KnowledgeBank(torch.arange(2), torch.ones(2, 3, 4), torch.ones(2).long())

    def scorer(bank: KnowledgeBank, labels: object) -> Tensor:
        bank.logits.mul_(2)
        return torch.zeros(bank.num_clients, bank.num_clients)

    def rule(bank: KnowledgeBank, weights: Tensor) -> Tensor:
        bank.logits.flatten()[0] += 1
        return bank.logits.softmax(dim=-1)

    with pytest.raises(KnowledgeError, match="The scorer scorer changed the predictions"):
        Pipeline(scorer, fusion.All(), fusion.MeanProbabilities())(bank)
    with pytest.raises(KnowledgeError, match="The rule rule changed the predictions"):
        Pipeline(fusion.KnFu(), fusion.All(), rule)(bank)

    def nobody(bank: KnowledgeBank, weights: Tensor) -> Tensor:
        bank.client_ids.zero_()
        return bank.logits.softmax(dim=-1)

    def even(bank: KnowledgeBank, weights: Tensor) -> Tensor:
        weights.fill_(0.5)
        return bank.logits.softmax(dim=-1)

    def near(scores: Tensor) -> Tensor:
        return scores.fill_(0) > -1

    for part in (nobody, even):
        with pytest.raises(KnowledgeError, match=f"The rule {part.__name__} changed"):
            Pipeline(fusion.KnFu(), fusion.All(), part)(bank)
    with pytest.raises(KnowledgeError, match="The neighbours near changed"):
        Pipeline(fusion.KnFu(), near, fusion.MeanProbabilities())(bank)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_targets_come_in_the_banks_precision(dtype: torch.dtype) -> None:
    def rule(bank: KnowledgeBank, weights: Tensor) -> Tensor:
        return torch.full_like(bank.logits, 1 / bank.num_classes, dtype=dtype)

    targets = replace(KNFU, rule=rule)(BANK).teachers.targets  # type: ignore[attr-defined]
    assert targets.dtype == BANK.logits.dtype
    assert bool((targets == 0.5).all())
