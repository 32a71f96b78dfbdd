"""CoMD: where clients are behind their teacher, by hand and as a part."""

from __future__ import annotations

import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.request.where_behind import WhereBehind, gap, hard_and_some_easy
from tests.fedfuse.request.test_jointly_confident import bank_of, teachers_of

TAUGHT = torch.tensor([[0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [0.6, 0.4, 0.0]])
OWN = torch.tensor([[0.5, 0.25, 0.25], [0.6, 0.4, 0.0], [0.55, 0.45, 0.0]])


def test_E6_unit_example_of_the_sheet():
    gaps = gap(TAUGHT, OWN, "confidence")
    torch.testing.assert_close(gaps, torch.tensor([0.4, -0.2, 0.05]), atol=1e-5, rtol=0)
    assert hard_and_some_easy(gaps, 0.1, 0.0, 1, torch.rand(3)).tolist() == [True, False, False]


def test_E6_cross_entropy_is_of_the_label_or_of_what_the_teacher_calls_likeliest():
    labels = torch.tensor([1, 0, 0])
    torch.testing.assert_close(
        gap(TAUGHT, OWN, "cross_entropy", labels),
        torch.tensor([0.1 / 0.25, 0.4 / 0.6, 0.6 / 0.55]).log(),
    )
    torch.testing.assert_close(
        gap(TAUGHT, OWN, "cross_entropy"), torch.tensor([0.9 / 0.5, 0.4 / 0.6, 0.6 / 0.55]).log()
    )
    assert gap(TAUGHT, OWN, "cross_entropy", torch.tensor([2, 2, 2])).isfinite().all()


def test_E6_the_largest_gaps_and_as_many_easy_ones_as_it_says():
    gaps, noise = torch.tensor([0.2, 0.0, 0.9, 0.5, 0.0, 0.0]), torch.arange(6) / 6
    for easy, number, chosen in (
        (0.5, 4, [1, 2, 3, 4]),
        (0.0, 2, [2, 3]),
        (1.0, 2, [1, 4]),
        (0.0, 4, [0, 1, 2, 3]),  # hard ones run short
        (1.0, 5, [1, 2, 3, 4, 5]),  # easy ones do
    ):
        made = hard_and_some_easy(gaps, 0.1, easy, number, noise)
        assert made.nonzero().flatten().tolist() == chosen


def test_E6_asks_for_all_first_then_for_the_hard_ones_and_some_others():
    part, index = WhereBehind(size=2, measure="confidence"), torch.arange(3)
    assert part(1, index, [0]).all()
    part.note(bank_of(OWN), teachers_of(TAUGHT), None, 1, index)
    drawn = {tuple(part(round_, index, [0]).tolist()) for round_ in range(2, 12)}
    assert drawn == {(True, True, False), (True, False, True)}
    assert part(4, index, [0]).tolist() == part(4, index, [0]).tolist()


def test_E6_without_a_gap_it_is_a_random_subset():
    part, index = WhereBehind(share=0.25), torch.arange(40)
    same = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    part.note(bank_of(same), teachers_of(same), None, 1, index)
    drawn = [part(round_, index, [0]) for round_ in (2, 3)]
    assert [int(one.sum()) for one in drawn] == [10, 10]
    assert not torch.equal(*drawn)


def test_E6_under_the_plain_mean_cross_entropy_has_a_gap_and_confidence_has_none():
    own = torch.rand(5, 30, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    taught = own.mean(dim=0, keepdim=True).expand_as(own)
    assert (gap(taught, own, "cross_entropy").mean(dim=0) > 0).all()
    assert (gap(taught, own, "confidence").mean(dim=0) < 1e-6).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 0},
        {"size": 0},
        {"delta": float("inf")},
        {"easy": 1.1},
        {"measure": "loss"},
        {"seed": True},
    ],
)
def test_E6_refuses_what_is_impossible(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        WhereBehind(**wrong)
