"""Evidence fused by Dempster's and Yager's rule: by hand, against folding pairs, at the edges."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedfuse.errors import ParameterError
from fedfuse.fusion import All, DataSize, MeanProbabilities, Pipeline, Uniform
from fedfuse.fusion.dempster import (
    COMBINE,
    DISCOUNT,
    EVIDENCE,
    Dempster,
    Opinion,
    combined,
    opinion,
)
from fedfuse.testing import check_rule, example_bank
from fedfuse.types import KnowledgeBank

E1, E2, E3 = (3.0, 0.0), (0.0, 1.0), (1.0, 1.0)
RAW: dict[str, Any] = {"evidence": "relu", "centre": False}


def sources(*evidence: Any) -> Opinion:
    """One sample; a row of evidence a source."""
    return opinion(torch.tensor(evidence, dtype=torch.float64).unsqueeze(1))


def bank(*logits: Any) -> KnowledgeBank:
    z = torch.tensor(logits, dtype=torch.float64).unsqueeze(1)
    return KnowledgeBank(torch.arange(len(z)), z, torch.ones(len(z), dtype=torch.int64))


def ones(*reliability: float) -> Tensor:
    return torch.tensor([reliability], dtype=torch.float64)


def close(made: Any, *expected: Any) -> None:
    for got, right in zip(made, expected, strict=True):
        right = torch.as_tensor(right, dtype=torch.float64).view_as(got)
        torch.testing.assert_close(got, right, atol=1e-5, rtol=0)


def folded(opinions: Opinion, order: Any, rho: Any, rule: str) -> tuple[Tensor, Tensor, Tensor]:
    """Dempster's rule for two, in turn, of plain numbers: belief, uncertainty, conflict."""
    belief, unsure, agreed = [0.0] * opinions.belief.shape[-1], 1.0, 1.0
    for j in order:
        b = [float(rho[j] * value) for value in opinions.belief[j, 0]]
        u = 1 - float(rho[j]) + float(rho[j] * opinions.uncertainty[j, 0])
        both = [x * y + x * u + unsure * y for x, y in zip(belief, b, strict=True)]
        total = sum(both) + unsure * u
        belief, unsure, agreed = [x / total for x in both], unsure * u / total, agreed * total
    if rule == "yager" or (rule == "auto" and 1 - agreed > 0.9):
        belief = [x * agreed for x in belief]
        unsure = 1 - sum(belief)
    exact = [torch.tensor(value, dtype=torch.float64) for value in (belief, unsure, 1 - agreed)]
    return exact[0], exact[1], exact[2]


def test_B1_beliefs_of_evidence() -> None:
    close(opinion(torch.tensor(E1).double())[:2], [0.6, 0], 0.4)
    close(opinion(torch.tensor(E2).double())[:2], [0, 0.333333], 0.666667)


def test_B1_unit_examples() -> None:
    two = sources(E1, E2)
    close(combined(two, ones(1, 1), "dempster"), [0.5, 0.166667], 0.333333, 0.2)
    close(combined(two, ones(1, 1), "yager")[:2], [0.4, 0.133333], 0.466667)
    close(combined(two, ones(1, 0.5), "dempster")[:2], [0.555556, 0.074074], 0.370370)
    three = sources(E1, E2, E3)
    close(combined(three, ones(1, 1, 1), "dempster")[:2], [0.55, 0.25], 0.2)


@pytest.mark.parametrize(
    ("combine", "second", "expected"),
    [
        ("dempster", 0.5, [0.666667, 0.333333]),
        ("auto", 0.5, [0.666667, 0.333333]),
        ("yager", 0.5, [0.633333, 0.366667]),
        ("dempster", 1 / 3, [0.740741, 0.259259]),
    ],
)
def test_B1_targets_of_the_rule(combine: str, second: float, expected: list[float]) -> None:
    weights = torch.tensor([[1 - second, second]] * 2, dtype=torch.float64)
    made = Dempster(**RAW, combine=combine)(bank(E1, E2), weights)
    close([made.targets], [expected, expected])


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("discounted", [False, True])
def test_B1_all_at_once_is_folding_in_pairs_in_any_order(combine: str, discounted: bool) -> None:
    draw = torch.Generator().manual_seed(3)
    evidence = 3 * torch.rand(4, 1, 3, generator=draw, dtype=torch.float64)
    evidence[0, 0, 0] += 20  # enough conflict for Yager's rule in some
    made_of = opinion(evidence)
    rho = torch.rand(1, 4, generator=draw).double() if discounted else torch.ones(1, 4).double()
    whole = combined(made_of, rho, combine)
    for order in itertools.permutations(range(4)):
        belief, unsure, conflict = folded(made_of, order, rho[0], combine)
        torch.testing.assert_close(whole.belief[0, 0], belief, atol=1e-12, rtol=0)
        torch.testing.assert_close(whole.uncertainty[0, 0], unsure, atol=1e-12, rtol=0)
        torch.testing.assert_close(whole.conflict[0, 0], conflict, atol=1e-12, rtol=0)


@pytest.mark.parametrize("weights", ["same", "few", "mixed"])
@pytest.mark.parametrize("combine", COMBINE)
def test_B1_every_receiver_and_sample_is_folded_by_itself(weights: str, combine: str) -> None:
    """More sources than a group, more samples than a block, masks; float64 in and out."""
    given = example_bank(11, 6, 4)
    draw = torch.Generator().manual_seed(1)
    mask = torch.rand(11, 6, generator=draw) < 0.7
    given = replace(given, logits=given.logits.double(), mask=mask)
    w = torch.rand(11, 11, generator=draw).double()
    w = {"same": torch.ones(11, 11).double(), "few": w * (w > 0.7), "mixed": w}[weights]
    w[range(11), range(11)] += 0.1
    w = w / w.sum(dim=1, keepdim=True)
    made = Dempster(combine=combine)(given, w)
    assert made.targets.dtype == torch.float64
    opinions = opinion(
        torch.nn.functional.softplus(given.logits - given.logits.mean(-1, keepdim=True))
    )
    unsure = 0.0
    for i, p in itertools.product(range(11), range(6)):
        rho = w[i] / w[i].max() * mask[:, p]
        of_sample = Opinion(*(part[:, p : p + 1] for part in opinions))
        belief, u, _ = folded(of_sample, range(11), rho, combine)
        torch.testing.assert_close(made.targets[i, p], belief + u / 4, atol=1e-10, rtol=0)
        unsure += float(u) / 66
    assert made.metrics["uncertainty"] == pytest.approx(unsure)


def test_B1_many_certain_sources_leave_no_product_too_small() -> None:
    """Forty ignorances of 1e-19 are far below what a float64 holds; their logarithms are not."""
    rho = torch.ones(1, 41, dtype=torch.float64)
    rho[0, 0] = 0.5
    opposed = sources((1e19, 0.0), *[(2e19, 0.0), (0.0, 1e19)] * 20)
    belief, unsure, _ = folded(opposed, range(41), rho[0], "dempster")
    made = combined(opposed, rho, "dempster")
    torch.testing.assert_close(made.belief[0, 0], belief, atol=1e-9, rtol=0)
    torch.testing.assert_close(made.uncertainty[0, 0], unsure, atol=1e-9, rtol=0)
    assert 0.9 < float(belief[0]) < 1


def test_B1_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given, w = example_bank(6, 7, 10), torch.rand(6, 6).softmax(1)
    whole = Dempster()(given, w)
    monkeypatch.setattr("fedfuse.fusion.dempster._BLOCK_ELEMENTS", 1)
    torch.testing.assert_close(Dempster()(given, w).targets, whole.targets)


def test_B1_one_reliable_source_is_returned_and_a_vacuous_one_changes_nothing() -> None:
    three = sources(E1, E2, E3)
    for combine in COMBINE:
        close(combined(three, ones(1, 0, 0), combine)[:2], three.belief[0, 0], 0.4)
        with_nothing = combined(sources(E1, E2, (0.0, 0.0)), ones(1, 1, 1), combine)
        for got, right in zip(
            with_nothing, combined(sources(E1, E2), ones(1, 1), combine), strict=True
        ):
            torch.testing.assert_close(got, right, atol=1e-12, rtol=0)


def test_B1_two_equal_sources_leave_less_uncertain_than_one() -> None:
    one, two = combined(sources(E1), ones(1)), combined(sources(E1, E1), ones(1, 1))
    assert float(two.uncertainty) < float(one.uncertainty)
    alone = Dempster()(bank(E1), torch.ones(1, 1).double())
    assert (
        alone.metrics["uncertainty"]
        > Dempster()(bank(E1, E1), torch.full((2, 2), 0.5).double()).metrics["uncertainty"]
    )


def test_B1_a_class_that_a_source_does_not_know_is_left_to_those_that_do() -> None:
    """Two of three clients have never seen class 2, and say little of it: their ignorance."""
    few, knows = (0.0, 0.0, 0.0), (0.0, 0.0, 4.0)
    given, w = bank(few, few, knows), torch.full((3, 3), 1 / 3).double()
    fused = Dempster(**RAW)(given, w).targets[0, 0, 2]
    assert float(fused) > float(MeanProbabilities()(given, w)[0, 0, 2])


def test_B1_certain_sources_that_contradict_each_other() -> None:
    nothing = torch.zeros(2, 1).double()
    certain = Opinion(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]).double(), nothing, nothing)
    close(combined(certain, ones(1, 0.99999999), "dempster"), [1.0, 0.0], 0.0, 1.0)
    close(combined(certain, ones(1, 1), "dempster"), [0.5, 0.5], 0.0, 1.0)
    for combine in ("yager", "auto"):
        close(combined(certain, ones(1, 1), combine), [0, 0], 1.0, 1.0)


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("discount", DISCOUNT)
@pytest.mark.parametrize("combine", COMBINE)
def test_B1_the_rule_keeps_its_promises(evidence: str, discount: str, combine: str) -> None:
    check_rule(Dempster(evidence=evidence, discount=discount, combine=combine))
    check_rule(Dempster(evidence, False, 3.0, discount, combine, weigh_by_belief=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e4, -1e4, 1e30])
@pytest.mark.parametrize("discount", DISCOUNT)
def test_B1_extreme_logits_make_no_nan(dtype: Any, scale: float, discount: str) -> None:
    given = example_bank(9, 5, 10)
    given = replace(given, logits=(scale * given.logits).to(dtype))
    w = torch.rand(9, 9, generator=torch.Generator().manual_seed(0)).softmax(1).to(dtype)
    for evidence, combine in itertools.product(EVIDENCE, COMBINE):
        made = Dempster(evidence, discount=discount, combine=combine)(given, w)
        assert made.targets.dtype == dtype
        assert bool((made.targets >= 0).all())
        torch.testing.assert_close(made.targets.sum(-1), torch.ones(9, 5, dtype=dtype))


def test_B1_who_did_not_answer_says_nothing() -> None:
    given = bank(E1, E2, (float("nan"), 5.0))
    masked = replace(given, mask=torch.tensor([[True], [True], [False]]))
    w = torch.full((3, 3), 1 / 3).double()
    made = Dempster(**RAW)(masked, w)
    close([made.targets], [[2 / 3, 1 / 3]] * 3)
    nobody = replace(given, mask=torch.zeros(3, 1, dtype=torch.bool))
    made = Dempster(**RAW, weigh_by_belief=True)(nobody, w)
    close([made.targets], [[0.5, 0.5]] * 3)
    assert made.sample_weight.tolist() == [[0.0]] * 3
    assert made.metrics == {"uncertainty": 1.0, "conflict": 0.0}
    fused = Pipeline(Uniform(), All(), Dempster(**RAW))(nobody).teachers
    assert fused.sample_weight.tolist() == [[0.0]] * 3


def test_B1_targets_may_count_by_what_is_believed() -> None:
    given = bank(E1, E2)
    w = torch.full((2, 2), 0.5).double()
    assert Dempster(**RAW)(given, w).sample_weight is None
    weighed = Dempster(**RAW, weigh_by_belief=True)(given, w)
    close([weighed.sample_weight.double()], [[2 / 3], [2 / 3]])
    told = Pipeline(DataSize(), All(), Dempster())(given).metrics
    assert {"uncertainty", "conflict"} <= set(told)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"evidence": "sigmoid"}, {"combine": "bayes"}, {"discount": "absolute"}),
        *({"scale": 0.0}, {"scale": float("nan")}, {"scale": float("inf")}, {"scale": True}),
        *({"centre": 1}, {"weigh_by_belief": "no"}, {"scale": "1"}, {"evidence": None}),
    ],
    ids=str,
)
def test_B1_impossible_options_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(wrong))}.* of Dempster"):
        Dempster(**wrong)
