"""Logit arithmetic: by hand, against a loop over plain numbers, at its edges, across rounds."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.fusion import All, DataSize, Pipeline
from fedfuse.fusion.filters import AmbiguityFilter
from fedfuse.fusion.gate import OwnOrFused
from fedfuse.fusion.logit_arithmetic import LogitArithmetic
from fedfuse.stateful import collect, give_back
from fedfuse.testing import check_rule, example_bank
from fedfuse.types import KnowledgeBank

GRID = [n / 10 for n in range(21)]


def exact(*rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def bank(*logits: Any) -> KnowledgeBank:
    z = exact(*logits).unsqueeze(1)
    return KnowledgeBank(torch.arange(len(z)), z, torch.ones(len(z), dtype=torch.int64))


def kl(a: list[float], b: list[float]) -> float:
    def log_softmax(z: list[float]) -> list[float]:
        level = max(z) + math.log(sum(math.exp(x - max(z)) for x in z))
        return [x - level for x in z]

    p, q = log_softmax(a), log_softmax(b)
    return sum(math.exp(x) * (x - y) for x, y in zip(p, q, strict=True))


def added(z: Any, steps: Any, alphas: Any) -> list[float]:
    return [x + sum(a * s[c] for a, s in zip(alphas, steps, strict=True)) for c, x in enumerate(z)]


def cost(own: Any, ref: Any, steps: Any, alphas: Any) -> float:
    moved = added(own, steps, alphas)
    experts = [added(ref, [step], [1]) for step in steps]
    return sum(
        (kl(moved, own) - kl(j, ref)) ** 2 + (kl(own, moved) - kl(ref, j)) ** 2 for j in experts
    )


def slow(own: Any, ref: Any, steps: Any, best: bool = False) -> list[float]:
    """The target of one receiver and sample, of plain numbers."""
    if best:
        found = [min((cost(own, ref, [s], [a]), a) for a in GRID) for s in steps]
        where = min(range(len(steps)), key=lambda n: found[n][0])
        return added(own, [steps[where]], [found[where][1]])
    alphas = [0.0] * len(steps)
    for _ in range(2):
        for e in range(len(steps)):
            tried = [[*alphas[:e], a, *alphas[e + 1 :]] for a in GRID]
            alphas = min(tried, key=lambda some: cost(own, ref, steps, some))
    return added(own, steps, alphas)


def test_B2_the_rule_makes_the_targets_of_the_unit_examples() -> None:
    """The mean of (1, 0), (2, 0) and (-3, 0) is the reference (0, 0)."""
    given = bank((1, 0), (2, 0), (-3, 0))
    weights = exact((0.1, 0.8, 0.1), (1, 0, 0), (0, 0, 1))
    made = LogitArithmetic()(given, weights)
    expected = exact(0.978119, 0.021881)
    torch.testing.assert_close(made.targets[0, 0].softmax(0), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(made.targets[2], given.logits[2])


def test_B2_who_is_the_reference_gets_exactly_the_expert() -> None:
    given = bank((0, 0, 0), (1, 0, 3), (-1, 0, -3))
    weights = exact((0.2, 0.6, 0.2), (1, 0, 0), (1, 0, 0))
    made = LogitArithmetic()(given, weights)
    torch.testing.assert_close(made.targets[0], given.logits[1])


def test_B2_experts_that_are_the_reference_leave_everybody_their_own() -> None:
    given = bank(*[(0.3, 1.2, -4)] * 4)
    made = LogitArithmetic()(given, torch.full((4, 4), 0.25).double())
    torch.testing.assert_close(made.targets, given.logits)
    assert made.metrics == {"alpha": 0.0}, "of equal ones the smallest alpha"


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("experts", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_B2_every_target_is_that_of_the_loop(experts: int, best: bool, masked: bool) -> None:
    num_clients, num_samples = 5, 3
    given = example_bank(num_clients, num_samples, 4)
    draw = torch.Generator().manual_seed(4)
    mask = torch.rand(num_clients, num_samples, generator=draw) < 0.7
    given = replace(given, logits=given.logits.double(), mask=mask if masked else None)
    there = mask if masked else torch.ones_like(mask)
    weights = torch.rand(num_clients, num_clients, generator=draw).double()
    weights = weights / weights.sum(1, keepdim=True)
    made = LogitArithmetic(experts=experts, per_sample_best=best)(given, weights).targets
    assert made.dtype == torch.float64
    for i in range(num_clients):
        for p in range(num_samples):
            known = [j for j in range(num_clients) if there[j, p]]
            z = given.logits[:, p].tolist()
            ref = [sum(z[j][c] for j in known) / len(known) for c in range(4)]
            near = sorted((j for j in known if j != i), key=lambda j: -float(weights[i, j]))
            steps = [[a - b for a, b in zip(z[j], ref, strict=True)] for j in near[:experts]]
            own = z[i] if i in known else ref
            expected = slow(own, ref, steps, best) if steps else own
            torch.testing.assert_close(made[i, p], exact(*expected), atol=1e-9, rtol=0)


def test_B2_sources_of_equal_weight_are_one_expert() -> None:
    given = bank((0, 0, 0.5), (3, 0, 0), (0, 1, 0), (-1, 0, 4))
    everybody = torch.full((4, 4), 0.25).double()
    made = LogitArithmetic()(given, everybody).targets
    z = given.logits[:, 0]
    for i in range(4):
        others = (z.sum(0) - z[i]) / 3 - z.mean(0)
        expected = slow(z[i].tolist(), z.mean(0).tolist(), [others.tolist()])
        torch.testing.assert_close(made[i, 0], exact(*expected), atol=1e-9, rtol=0)
    same = LogitArithmetic(experts=3)(given, everybody).targets
    torch.testing.assert_close(same, made)  # there is no second expert


def test_B2_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given, weights = example_bank(6, 7, 10), torch.rand(6, 6).softmax(1)
    mask = torch.rand(6, 7, generator=torch.Generator().manual_seed(0)) < 0.6
    for some in (given, replace(given, mask=mask)):
        whole = LogitArithmetic(experts=2)(some, weights)
        with monkeypatch.context() as patch:
            patch.setattr("fedfuse.fusion.logit_arithmetic._BLOCK_ELEMENTS", 1)
            made = LogitArithmetic(experts=2)(some, weights)
        torch.testing.assert_close(made.targets, whole.targets)
        assert made.metrics["alpha"] == pytest.approx(whole.metrics["alpha"])


def test_B2_a_second_sweep_corrects_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    given, weights = example_bank(6, 7, 10), torch.rand(6, 6).softmax(1)
    twice = LogitArithmetic(experts=3)(given, weights)
    monkeypatch.setattr("fedfuse.fusion.experts._SWEEPS", 1)
    once = LogitArithmetic(experts=3)(given, weights)
    assert float((twice.targets - once.targets).abs().max()) > 0.05


def test_B2_a_receiver_alone_keeps_its_own() -> None:
    one = example_bank(1, 3, 4)
    made = LogitArithmetic(experts=2)(one, torch.ones(1, 1))
    assert torch.equal(made.targets, one.logits)
    assert made.metrics == {"alpha": 0.0}
    four = example_bank(4, 3, 4)
    assert torch.equal(LogitArithmetic()(four, torch.eye(4)).targets, four.logits)


def test_B2_masked_answers_are_no_experts_and_may_hold_nan() -> None:
    given = bank((1, 0), (2, 0), (float("nan"), 3.0), (-3, 0))
    given = replace(given, mask=torch.tensor([[True], [True], [False], [True]]))
    weights = exact(*[(0.05, 0.3, 0.6, 0.05)] * 4)
    made = LogitArithmetic()(given, weights).targets
    expected = exact(0.978119, 0.021881)
    torch.testing.assert_close(made[0, 0].softmax(0), expected, atol=1e-5, rtol=0)
    # who did not answer starts from the reference, and is moved as far as the expert was
    torch.testing.assert_close(made[2], given.logits[1])
    nobody = replace(given, mask=torch.zeros(4, 1, dtype=torch.bool))
    assert LogitArithmetic()(nobody, weights).targets.tolist() == [[[0.0, 0.0]]] * 4


@pytest.mark.parametrize(
    "options",
    [
        *({"reference": "previous"}, {"experts": 2, "max": 1.0, "points": 3}),
        *({"experts": 3, "per_sample_best": True, "points": 5},),
    ],
    ids=str,
)
def test_B2_the_rule_keeps_its_promises(options: dict[str, Any]) -> None:
    check_rule(LogitArithmetic(**options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e4, -1e4, 1e37])
def test_B2_extreme_logits_make_no_nan(dtype: Any, scale: float) -> None:
    given = example_bank(6, 5, 10)
    given = replace(given, logits=(scale * given.logits).to(dtype))
    weights = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)).softmax(1).to(dtype)
    for options in ({}, {"experts": 3}, {"experts": 3, "per_sample_best": True}):
        made = LogitArithmetic(**options)(given, weights).targets  # type: ignore[arg-type]
        assert made.dtype == dtype
        assert bool(made.isfinite().all())


def test_B2_the_reference_may_be_the_round_before() -> None:
    first, second = bank((1, 0), (-1, 2)), bank((1, 0), (2, 0))
    weights = exact((0, 1), (1, 0))
    rule = LogitArithmetic(reference="previous")
    began = rule(first, weights).targets
    assert torch.equal(began, LogitArithmetic()(first, weights).targets), "nothing was before"
    made = rule(second, weights).targets
    for i, j in ((0, 1), (1, 0)):
        own, other = second.logits[i, 0].tolist(), second.logits[j, 0].tolist()
        step = [other[0] - 0, other[1] - 1]  # the mean before was (0, 1)
        expected = slow(own, [0.0, 1.0], [step])
        torch.testing.assert_close(made[i, 0], exact(*expected), atol=1e-9, rtol=0)


@pytest.mark.parametrize("wrap", [lambda rule: rule, OwnOrFused])
def test_B2_a_resumed_run_goes_on_to_the_bit(wrap: Any) -> None:
    def pipeline() -> Pipeline:
        rule = wrap(LogitArithmetic(reference="previous"))
        return Pipeline(DataSize(), All(), rule, filter=AmbiguityFilter(1.2))

    banks = [example_bank(4, 6, 3) for _ in range(3)]
    for number, some in enumerate(banks):
        banks[number] = replace(some, logits=some.logits.roll(number, dims=0) * (1 + number))
    banks[0] = replace(banks[0], mask=torch.rand(4, 6) < 0.3)
    whole = pipeline()
    for some in banks[:2]:
        whole(some)
    saved = copy.deepcopy(collect({"combine": whole}))
    assert len(saved) == 2
    resumed, forgot = pipeline(), pipeline()
    give_back({"combine": resumed}, saved)
    expected = whole(banks[2]).teachers.targets
    assert torch.equal(resumed(banks[2]).teachers.targets, expected)
    assert not torch.equal(forgot(banks[2]).teachers.targets, expected)


def test_B2_samples_that_nobody_answered_before_have_this_rounds_mean() -> None:
    given = example_bank(3, 4, 3)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[:, 1] = False
    rule, weights = LogitArithmetic(reference="previous"), torch.full((3, 3), 1 / 3)
    rule(replace(given, logits=given.logits * 2 + 1, mask=mask), weights)
    made, plain = rule(given, weights).targets, LogitArithmetic()(given, weights).targets
    assert torch.equal(made[:, 1], plain[:, 1])
    assert not torch.equal(made[:, 0], plain[:, 0])


def test_B2_other_samples_than_before_are_refused() -> None:
    rule = LogitArithmetic(reference="previous")
    rule(example_bank(3, 4, 3), torch.eye(3))
    with pytest.raises(KnowledgeError, match=r"\[5, 3\].*\[4, 3\].*select=all"):
        rule(example_bank(3, 5, 3), torch.eye(3))


@pytest.mark.parametrize(
    "state",
    [
        {"mean": torch.zeros(2, 3)},
        {"mean": torch.full((2, 3), torch.nan), "known": torch.ones(2) > 0},
        {"mean": torch.zeros(2, 3), "known": torch.ones(3) > 0},
        {"mean": torch.zeros(2, 3), "known": torch.ones(2)},
    ],
)
def test_B2_a_state_of_something_else_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(KnowledgeError, match="saved state of LogitArithmetic"):
        LogitArithmetic(reference="previous").restore(state)


def test_B2_many_experts_of_many_clients_want_a_switch() -> None:
    many, weights = example_bank(33, 1, 2), torch.rand(33, 33).softmax(1)
    with pytest.raises(KnowledgeError, match=r"33 clients.*at most 32.*many_experts=true"):
        LogitArithmetic(experts=4)(many, weights)
    LogitArithmetic(experts=4, many_experts=True)(many, weights)
    LogitArithmetic(experts=3)(many, weights)
    LogitArithmetic(experts=4)(example_bank(32, 1, 2), weights[:32, :32])


@pytest.mark.parametrize(
    "wrong",
    [
        *({"max": 0.0}, {"max": float("inf")}, {"max": float("nan")}, {"max": True}),
        *({"points": 1}, {"points": 2.5}, {"experts": 0}, {"experts": True}, {"experts": "all"}),
        *({"reference": "first"}, {"per_sample_best": 1}, {"many_experts": "yes"}),
    ],
    ids=str,
)
def test_B2_impossible_options_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(wrong))}.* of LogitArithmetic"):
        LogitArithmetic(**wrong)
