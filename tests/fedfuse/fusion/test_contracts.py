"""Every shipped part of fusion and distillation keeps its protocol's promises: one table."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from fedfuse import distill, fusion
from fedfuse.fusion.class_weights import ClassWeights
from fedfuse.fusion.divergences import DIVERGENCES
from fedfuse.fusion.sharpen import identity
from fedfuse.protocols import ClassScores
from fedfuse.testing import CheckFailed
from fedfuse.testing.distill import check_distill_loss
from fedfuse.testing.fusion import check_neighbours, check_rule, check_scorer, check_sharpen
from fedfuse.types import KnowledgeBank, Space

EPDS = ("mean_soft", "prior_corrected", "class_conditional", "label_histogram", "oracle")
FLAGS = (True, False)

PARTS: list[tuple[Callable[..., None], object]] = [
    *[(check_scorer, fusion.KnFu(e, d, smoothing=0.5)) for e, d in product(EPDS, DIVERGENCES)],
    (check_scorer, fusion.KnFu(beta=0)),
    (check_scorer, fusion.KnFu(temperature=3)),
    (check_scorer, fusion.Uniform()),
    (check_scorer, fusion.DataSize()),
    *[(check_neighbours, fusion.All(flag)) for flag in FLAGS],
    *[(check_neighbours, fusion.TopK(k, flag)) for k, flag in product((1, 2, 50), FLAGS)],
    *[(check_neighbours, fusion.TopP(p, flag)) for p, flag in product((1e-9, 0.5, 1), FLAGS)],
    *[(check_neighbours, fusion.Threshold(r, flag)) for r, flag in product((0, 0.5, 1), FLAGS)],
    *[(check_neighbours, fusion.Mutual(k, flag)) for k, flag in product((1, 2, 50), FLAGS)],
    *[(check_rule, fusion.MeanProbabilities(t)) for t in (0.5, 1, 4)],
    (check_rule, fusion.MeanLogits()),
    *[(check_rule, fusion.GeometricMean(t)) for t in (0.5, 1, 4)],
    (check_sharpen, identity),
    (check_sharpen, fusion.Hard()),
    *[(check_sharpen, fusion.Power(b)) for b in (0.5, 1, 2, 1000)],
    *[
        (check_distill_loss, distill.KL(t, scale, direction))
        for t, scale, direction in product((0.5, 1, 4), FLAGS, ("forward", "reverse"))
    ],
    *[(check_distill_loss, distill.SoftCrossEntropy(t)) for t in (0.5, 1, 4)],
    (check_distill_loss, distill.MSELogits()),
    (check_distill_loss, distill.MAELogits()),
]


def _short(value: object) -> str:
    # A function's repr holds its address, which differs between the processes of a parallel run.
    return getattr(value, "__name__", repr(value)[:60])


@pytest.mark.parametrize(("check", "part"), PARTS, ids=_short)
def test_shipped_parts_keep_their_promises(check: Callable[[object], None], part: object) -> None:
    check(part)


@pytest.mark.filterwarnings("ignore:ERA with 100 classes")
@pytest.mark.parametrize("temperature", [0.1, 1])
def test_era_keeps_its_promises(temperature: float) -> None:
    check_sharpen(fusion.ERA(temperature))


def _counting(result: Callable[[KnowledgeBank], Tensor]) -> Callable[..., Tensor]:
    calls = []

    def scorer(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
        calls.append(1)
        return result(bank) + len(calls)

    return scorer


def _square(bank: KnowledgeBank) -> Tensor:
    return bank.logits.new_zeros(bank.num_clients, bank.num_clients)


def _greedy(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
    bank.logits.mul_(2)
    return _square(bank)


def _first_is_best(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
    scores = _square(bank)
    scores[:, 0] = 1
    return scores


def _peeking(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
    means = bank.logits.mean(dim=(1, 2))
    return means + means.unsqueeze(1)


def _cube(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
    return bank.logits.new_zeros(bank.num_clients, bank.num_clients, bank.num_classes)


def _by_class(result: Callable[[KnowledgeBank], object]) -> Callable[..., object]:
    def part(bank: KnowledgeBank, _: object) -> object:
        return result(bank)

    part.by_class = True  # type: ignore[attr-defined]
    return part


BROKEN_SCORERS = [
    (lambda bank, labels: None, "a float tensor of shape"),
    (lambda bank, labels: torch.zeros(7, 7), "a float tensor of shape"),
    (lambda bank, labels: _square(bank) / 0, "NaN or"),
    (lambda bank, labels: _square(bank).bool(), "a float tensor of shape"),
    (_counting(_square), "called again"),
    (_greedy, "changes its inputs"),
    (_first_is_best, "order of the clients"),
    (_peeking, "mask hides"),
    (_cube, "does not declare by_class = True"),
    (_by_class(lambda bank: _cube(bank, None)[..., 1:]), "a float tensor of shape"),
    (_by_class(lambda bank: _cube(bank, None) + torch.nan), "NaN or"),
    (
        _by_class(lambda bank: ClassScores(_square(bank), bank.logits[:, 0, 1:])),
        "a float tensor of shape",
    ),
    (
        _by_class(lambda bank: ClassScores(_first_is_best(bank, None), 0 * bank.logits[:, 0])),
        "order of the clients",
    ),
    (
        _by_class(lambda bank: ClassScores(_square(bank), bank.logits.mean(dim=1))),
        "mask hides",
    ),
]


@pytest.mark.parametrize(("scorer", "complaint"), BROKEN_SCORERS)
def test_check_scorer_finds(scorer: Callable[..., Tensor], complaint: str) -> None:
    with pytest.raises(CheckFailed, match=complaint):
        check_scorer(scorer)


BROKEN_NEIGHBOURS = [
    (lambda scores: scores, "torch.bool tensor of shape"),
    (lambda scores: scores > 1e9, "without any neighbour"),
    (lambda scores: torch.ones_like(scores).tril().bool(), "order of the clients"),
    (lambda scores: scores.fill_(0) == 0, "changes its inputs"),
]


@pytest.mark.parametrize(("neighbours", "complaint"), BROKEN_NEIGHBOURS)
def test_check_neighbours_finds(neighbours: Callable[..., Tensor], complaint: str) -> None:
    with pytest.raises(CheckFailed, match=complaint):
        check_neighbours(neighbours)


def _mixed_space(bank: KnowledgeBank, weights: Tensor) -> Tensor:
    return fusion.MeanLogits()(bank, weights)


def _unmasked(bank: KnowledgeBank, weights: Tensor) -> Tensor:
    return torch.einsum("kj,jpc->kpc", weights, bank.logits.softmax(dim=-1))


def _shared(bank: KnowledgeBank, weights: Tensor) -> Tensor:
    return fusion.MeanProbabilities()(bank, weights)[:1].expand(bank.logits.shape)


def _pairs_only(bank: KnowledgeBank, weights: Tensor | ClassWeights) -> Tensor:
    if isinstance(weights, ClassWeights):  # the column, not the row, is the receiver's here
        weights = weights.mean.T / weights.mean.sum(dim=0).unsqueeze(1)
    return fusion.MeanProbabilities()(bank, weights)


_pairs_only.by_class = True  # type: ignore[attr-defined]


BROKEN_RULES = [
    (lambda bank, weights: bank.logits[0], "a float tensor of shape"),
    (lambda bank, weights: bank.logits / 0, "NaN or infinite"),
    (_mixed_space, "left the simplex"),
    (_unmasked, "mask hides"),
    (_shared, "order of the clients"),
    (_pairs_only, "same for every class as others than those of pairs"),
]


@pytest.mark.parametrize(("rule", "complaint"), BROKEN_RULES)
def test_check_rule_finds(rule: Callable[..., Tensor], complaint: str) -> None:
    with pytest.raises(CheckFailed, match=complaint):
        check_rule(rule)


BROKEN_SHARPENINGS = [
    (lambda probs: 2 * probs, "left the simplex"),
    (lambda probs: probs.flatten(0, -2), "a float tensor of shape"),
    (lambda probs: probs.mean(dim=0, keepdim=True).expand(probs.shape), "different clients"),
]


@pytest.mark.parametrize(("sharpen", "complaint"), BROKEN_SHARPENINGS)
def test_check_sharpen_finds(sharpen: Callable[..., Tensor], complaint: str) -> None:
    with pytest.raises(CheckFailed, match=complaint):
        check_sharpen(sharpen)


def _naive_kl(logits: Tensor, targets: Tensor) -> Tensor:
    return (targets * (targets.log() - logits.softmax(dim=-1).log())).sum(dim=-1)


BROKEN_LOSSES = [
    (lambda logits, targets: distill.KL()(logits, targets).mean(), "a float tensor of shape"),
    (lambda logits, targets: -distill.KL()(logits, targets), "disagrees with its teacher"),
    (lambda logits, targets: distill.KL()(logits - logits.mean(0), targets), "mixes the samples"),
    (_naive_kl, "finite"),
]


@pytest.mark.parametrize(("loss", "complaint"), BROKEN_LOSSES)
def test_check_distill_loss_finds(loss: Callable[..., Tensor], complaint: str) -> None:
    with pytest.raises(CheckFailed, match=complaint):
        check_distill_loss(loss)


def test_plain_functions_and_partials_of_them_are_parts() -> None:
    def scaled(bank: KnowledgeBank, weights: Tensor, factor: float) -> Tensor:
        return factor * fusion.MeanLogits()(bank, weights)

    scaled.space = Space.LOGITS  # type: ignore[attr-defined]
    check_rule(functools.partial(scaled, factor=2.0))

    def by_labels(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
        assert labels is not None
        hits = (bank.logits.argmax(-1) == labels).float()
        if bank.mask is not None:
            hits = hits * bank.mask
        return hits.sum(dim=1).repeat(bank.num_clients, 1)

    by_labels.needs_labels = True  # type: ignore[attr-defined]
    check_scorer(by_labels)
