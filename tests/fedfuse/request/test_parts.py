"""What is asked for and wished: formulas by hand, edges, and what authors' checks find."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.request import Curriculum, OnDemand
from fedfuse.request.curriculum import pace
from fedfuse.request.knowledge import best, entropy, lesson_of
from fedfuse.request.on_demand import doubt
from fedfuse.testing import CheckFailed, check_answering, check_requester, check_wishing
from fedfuse.types import KnowledgeBank, Space, Teachers

REQUESTERS = [
    *(Curriculum(), Curriculum(start=1.0), Curriculum(order="random", seed=3)),
    *(Curriculum(order="hard_first", ramp_rounds=1), Curriculum(by="label")),
]
WISHES = [OnDemand(), OnDemand(theta=0.0), OnDemand(theta=1.0), OnDemand(share=0.3)]


@pytest.mark.parametrize("part", REQUESTERS, ids=str)
def test_every_requester_keeps_its_promises(part):
    check_requester(part)


@pytest.mark.parametrize("part", WISHES, ids=str)
def test_every_wish_keeps_its_promises(part):
    check_wishing(part)


def taught(probs, *, index=None, mask=None, weight=None, students=None):
    """A fusion of one client's answers, [m, C] probabilities, with the same as its teacher."""
    probs = torch.as_tensor(probs, dtype=torch.float32)
    said = probs if students is None else torch.as_tensor(students, dtype=torch.float32)
    ids = torch.tensor([0])
    bank = KnowledgeBank(ids, said.log().unsqueeze(0), torch.ones(1).long(), mask=mask)
    teachers = Teachers(ids, probs.unsqueeze(0), Space.PROBABILITIES, weight)
    return bank, teachers, torch.arange(len(probs)) if index is None else torch.tensor(index)


def rows_with(*largest):
    return [[p, 1 - p] for p in largest]


def test_E7_the_share_grows_with_the_exchanges():
    assert [math.ceil(10 * pace(r, 0.3, 10)) for r in (0, 5, 10, 20)] == [3, 7, 10, 10]


@pytest.mark.parametrize(
    ("order", "wanted"), [("easy_first", [1, 3]), ("hard_first", [0, 2]), ("random", None)]
)
def test_E7_the_easiest_come_first_or_the_controls(order, wanted):
    part = Curriculum(start=0.25, ramp_rounds=3, order=order)
    bank, teachers, index = taught(rows_with(0.6, 0.99, 0.55, 0.9))
    assert part(1, index, [0]).all(), "nothing is known"
    part.note(bank, teachers, None, 1, index)
    chosen = part(2, index, [0]).nonzero().flatten().tolist()
    assert len(chosen) == 2  # 0.25 + 0.75 / 3 of 4
    assert wanted is None or chosen == wanted
    for round_ in (2, 3):
        part.note(bank, teachers, None, round_, index)
    assert part(4, index, [0]).all(), "all after the ramp"


def test_E7_a_start_of_1_asks_for_all_and_labels_may_say_what_is_hard():
    bank, teachers, index = taught(rows_with(0.6, 0.99, 0.55, 0.9))
    whole = Curriculum(start=1.0)
    whole.note(bank, teachers, None, 1, index)
    assert whole(2, index, [0]).all()
    part = Curriculum(start=0.25, ramp_rounds=100, by="label")
    part.note(bank, teachers, torch.tensor([0, 1, 1, 0]), 1, index)
    assert part(2, index, [0]).tolist() == [True, False, False, True], "-log .6 and -log .9"


def test_what_nobody_has_answered_is_asked_for_first_and_what_is_known_stays_known():
    part = Curriculum(start=0.25, ramp_rounds=1000)
    mask = torch.tensor([[True, True, True, False]])
    bank, teachers, index = taught(rows_with(0.6, 0.99, 0.55, 0.9), mask=mask, weight=mask.float())
    part.note(bank, teachers, None, 1, index)
    assert part(2, index, [0]).tolist() == [False, True, False, True]
    later, told, other = taught(rows_with(0.97, 0.51), index=[3, 7])
    part.note(later, told, None, 2, other)
    assert part(3, index, [0]).tolist() == [False, True, False, True]
    assert part(3, torch.tensor([1, 3, 7, 8]), [0]).tolist() == [True, False, False, True]


def test_a_lesson_is_of_what_was_answered_and_is_taught():
    logits = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], [[0.7, 0.3]] * 3]).log()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    bank = KnowledgeBank(torch.arange(2), logits, torch.ones(2).long(), mask=mask)
    targets = torch.tensor([[[0.6, 0.4], [0.1, 0.9], [0.5, 0.5]]] * 2)
    weight = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 0.0]])
    lesson = lesson_of(bank, Teachers(bank.client_ids, targets, Space.PROBABILITIES, weight), None)
    assert lesson.rows.tolist() == [0, 1]
    torch.testing.assert_close(lesson.students, torch.tensor([[0.8, 0.2], [0.2, 0.8]]))
    torch.testing.assert_close(lesson.teacher, targets[0, :2])
    assert lesson.labels.tolist() == [0, 1]


def test_best_takes_ties_by_index_and_never_nothing():
    scores = torch.tensor([0.1, 0.7, torch.nan, 0.7])
    assert best(scores, 2).tolist() == [False, True, True, False]
    assert best(scores, 2, unknown="last").tolist() == [False, True, False, True]
    assert best(scores, 0, unknown="last").tolist() == [False, True, False, False]
    assert best(scores, 9).all()


OWN = torch.tensor([[0.97, 0.03], [0.6, 0.4], [0.8, 0.2]]).log()
NOBODY = (None, torch.ones(2), torch.Generator())


def test_E8_a_client_wishes_where_it_is_unsure():
    expected = torch.tensor([0.194392, 0.970951, 0.721928])
    torch.testing.assert_close(doubt(OWN), expected, atol=1e-5, rtol=0)
    assert OnDemand()(OWN, *NOBODY).tolist() == [False, True, True]
    assert OnDemand(share=0.3)(OWN, *NOBODY).tolist() == [False, True, False]
    assert OnDemand(theta=0.0)(OWN, *NOBODY).all()
    sure = torch.tensor([[50.0, 0.0], [90.0, 0.0]])
    assert OnDemand()(sure, *NOBODY).tolist() == [True, False], "never nothing"


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: Curriculum(start=bad),
        lambda bad: Curriculum(ramp_rounds=bad),
        lambda bad: OnDemand(theta=bad),
        lambda bad: OnDemand(share=bad),
    ],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), True, -1, "much"])
def test_impossible_parameters_are_refused(make, bad):
    with pytest.raises(ParameterError):
        make(bad)


@dataclass
class Broken:
    """Breaks one promise."""

    noted: int = 0
    fault: str = "state"

    def __call__(self, round, index, client_ids):  # noqa: A002
        rows = torch.ones(len(client_ids), len(index), dtype=torch.bool)
        if self.noted:
            rows[:, 0] = False
        if self.fault == "company" and self.noted:
            rows[0, 1] = False
        if self.fault == "global":
            torch.rand(1)
        if self.fault == "again":
            self.noted += 1
        if self.fault == "early":
            rows[:, 0] = False
        return rows if self.fault != "nothing" or not self.noted else rows & False

    def state(self):
        return {} if self.fault == "state" else {"noted": torch.tensor(self.noted)}

    def restore(self, state):
        self.noted = int(state.get("noted", 0))

    def note(self, bank, teachers, labels, round, index):  # noqa: A002
        self.noted += 1
        if self.fault == "changes":
            bank.logits.zero_()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("state", "remembers what its state does not hold"),
        ("company", "asks a client by who else is asked"),
        ("global", "some rounds"),
        ("again", "asks for something else when asked again|by who else"),
        ("early", "does not ask for all before"),
        ("nothing", "asks for nothing"),
        ("changes", "changes what it is told"),
    ],
)
def test_a_broken_requester_is_told_what_it_broke(fault, words):
    with pytest.raises(CheckFailed, match=words):
        check_requester(Broken(fault=fault))


def test_a_broken_choice_is_told_what_it_broke():
    for check in (check_answering, check_wishing):
        with pytest.raises(CheckFailed, match="chose nothing"):
            check(lambda own, *_: torch.zeros(len(own), dtype=torch.bool))
        with pytest.raises(CheckFailed, match="something else than its generator"):
            check(lambda own, *_: torch.arange(len(own)) <= next(COUNT) % len(own))
    check_answering(lambda own, *_: own[:, 0])
    with pytest.raises(CheckFailed, match="does not choose among"):
        check_wishing(lambda own, *_: own[:, 0])


COUNT = iter(range(10_000))


def test_entropy_of_certainty_is_0():
    assert entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist() == [
        0,
        pytest.approx(math.log(2)),
    ]
