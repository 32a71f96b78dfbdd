"""PGKD: weak classes and confident mistakes, by hand and as a part."""

from __future__ import annotations

import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.request.weak_classes import (
    WeakClasses,
    deficit_shares,
    f1_by_class,
    in_proportion,
)
from tests.fedfuse.request.test_jointly_confident import bank_of, teachers_of


def one_hot(classes: list[int], sure: float = 0.9, num_classes: int = 2) -> torch.Tensor:
    rest = (1 - sure) / (num_classes - 1)
    return torch.full((len(classes), num_classes), rest).scatter_(
        1, torch.tensor(classes).unsqueeze(1), sure
    )


def test_E5_unit_example_of_the_sheet():
    shares = deficit_shares(torch.tensor([0.9, 0.5]))
    torch.testing.assert_close(shares, torch.tensor([0.166667, 0.833333]), atol=1e-5, rtol=0)
    assert deficit_shares(torch.ones(4)).tolist() == [0.25] * 4


def test_E5_f1_by_hand_of_two_clients_together():
    # Class 0 has samples 0 and 1; both clients name 0 for the first, one for the second.
    votes = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    f1 = f1_by_class(votes, torch.tensor([0, 0, 1]))
    # Class 0: 3 right, 1 wrong, 1 missed; class 1: 1 right, 1 wrong, 1 missed.
    torch.testing.assert_close(f1, torch.tensor([6 / 8, 2 / 4, 1.0]))


def test_E5_where_all_classes_are_as_weak_it_asks_for_as_many_of_each():
    index = torch.arange(40)
    labels = torch.tensor([0] * 30 + [1] * 10)
    right = one_hot(labels.tolist(), 0.6)
    part = WeakClasses(size=10)
    assert part(1, index, [0]).all()
    part.note(bank_of(right), teachers_of(right), labels, 1, index)  # nothing is amiss
    asked = part(2, index, [0])
    assert labels[asked].bincount().tolist() == [5, 5]


def test_E5_a_weak_class_gets_its_share_and_what_it_lacks_goes_to_the_others():
    index, labels = torch.arange(20), torch.tensor([0] * 16 + [1] * 4)
    # Of 16 samples of class 0 4 are called 1: F1 24/28 and 8/12, deficits 1/7 and 1/3.
    said = one_hot([0] * 12 + [1] * 4 + [1] * 4, 0.6)
    counts = []
    for size in (5, 10):
        part = WeakClasses(size=size)
        part.note(bank_of(said), teachers_of(said), labels, 1, index)
        counts.append(labels[part(2, index, [0])].bincount(minlength=2).tolist())
    # Shares 0.3 and 0.7; of ten, class 1 has but four.
    assert counts in ([[1, 4], [6, 4]], [[2, 3], [6, 4]])


def test_E5_confident_mistakes_come_first():
    index, labels = torch.arange(8), torch.zeros(8, dtype=torch.int64)
    own = one_hot([0, 0, 1, 0, 1, 0, 1, 0])
    own[6] = torch.tensor([0.3, 0.7])  # a mistake, but not sure of it
    part = WeakClasses(size=2, theta=0.8)
    part.note(bank_of(own), teachers_of(one_hot([0] * 8)), labels, 1, index)
    for round_ in (2, 3):
        assert part(round_, index, [0]).nonzero().flatten().tolist() == [2, 4]
    some = WeakClasses(size=3, theta=0.8)
    some.restore(part.state())
    drawn = {tuple(some(round_, index, [0]).nonzero().flatten().tolist()) for round_ in range(9)}
    assert all({2, 4} < set(one) for one in drawn)
    assert len(drawn) > 1


def test_E5_without_labels_what_teachers_say_stands_for_them():
    index, taught = torch.arange(4), one_hot([0, 0, 1, 1])
    own = one_hot([0, 0, 1, 0], 0.6)
    asked = []
    for labels in (None, torch.tensor([0, 0, 1, 1])):
        part = WeakClasses(size=2)
        part.note(bank_of(own), teachers_of(taught), labels, 1, index)
        asked.append(part(2, index, [0]).tolist())
    assert asked[0] == asked[1]


def test_E5_after_its_patience_it_asks_for_one_sample_until_something_improves():
    index, labels = torch.arange(8), torch.tensor([0, 1] * 4)
    part = WeakClasses(size=4, patience=2)
    bad, good = one_hot([0] * 8), one_hot([0, 1] * 4)
    numbers = []
    for round_, said in enumerate((bad, bad, bad, good)):
        part.note(bank_of(said), teachers_of(good), labels, round_, index)
        numbers.append(int(part(round_ + 1, index, [0]).sum()))
    assert numbers == [4, 4, 1, 4]
    again = WeakClasses(size=4, patience=1)
    again.restore(part.state())
    again.note(bank_of(bad), teachers_of(good), labels, 5, index)
    assert int(again(6, index, [0]).sum()) == 1


def test_E5_within_a_class_the_most_mistaken_come_first_of_equals_by_noise():
    first, classes = torch.tensor([0.0, 2.0, 0.0, 1.0]), torch.tensor([0, 0, 0, 1])
    noise, all_of_one = torch.tensor([0.9, 0.5, 0.1, 0.2]), torch.tensor([1.0, 0.0])
    chosen = in_proportion(all_of_one, classes, first, noise, 2)
    assert chosen.tolist() == [False, True, True, False]
    assert in_proportion(all_of_one, classes, first, noise, 4).all()  # what it lacks, others give


def test_E5_classes_without_a_share_give_alike_what_the_others_lack():
    classes, none = torch.tensor([1, 2] * 10), torch.zeros(20)
    chosen = in_proportion(torch.tensor([1.0, 0.0, 0.0]), classes, none, torch.rand(20), 12)
    assert classes[chosen].bincount().tolist() == [0, 6, 6]


def test_E5_patience_looks_at_all_last_answers_and_not_at_the_weakest_alone():
    labels = torch.tensor([0, 1] * 4)
    part = WeakClasses(size=2, patience=1)
    said = [0, 1, 0, 1, 0, 1, 1, 0]  # 6 of 8 are right
    part.note(bank_of(one_hot(said)), teachers_of(one_hot([0, 1] * 4)), labels, 1, torch.arange(8))
    weakest = torch.tensor([5, 6, 7])  # of which one has become right: better, all in all
    better, right = one_hot([1, 0, 0]), one_hot([1, 0, 1])
    part.note(bank_of(better), teachers_of(right), labels[weakest], 2, weakest)
    assert int(part(3, torch.arange(8), [0]).sum()) == 2


@pytest.mark.parametrize(
    "wrong", [{"share": 2}, {"size": 1.5}, {"theta": -0.1}, {"patience": 0}, {"seed": -1}]
)
def test_E5_refuses_what_is_impossible(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        WeakClasses(**wrong)
