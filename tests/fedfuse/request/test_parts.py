"""What is asked for and wished: formulas by hand, edges, and what authors' checks find."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.request import KSAS, Curriculum, Difference, GapByDomain, OnDemand
from fedfuse.request.curriculum import pace
from fedfuse.request.difference import difference
from fedfuse.request.drawn import Drawn
from fedfuse.request.gap_by_domain import draw, perplexities, shares
from fedfuse.request.jointly_confident import JointlyConfident
from fedfuse.request.knowledge import best, entropy, lesson_of
from fedfuse.request.ksas import discrepancy
from fedfuse.request.on_demand import doubt
from fedfuse.request.weak_classes import WeakClasses
from fedfuse.request.where_behind import WhereBehind
from fedfuse.testing import CheckFailed, check_answering, check_requester, check_wishing
from fedfuse.types import KnowledgeBank, Space, Teachers

REQUESTERS = [
    *(Curriculum(), Curriculum(start=1.0), Curriculum(order="random", seed=3)),
    *(Curriculum(order="hard_first", ramp_rounds=1), Curriculum(by="label")),
    *(GapByDomain(), GapByDomain(size=7, per_client=True), GapByDomain(alpha=0.0, labels=False)),
    *(GapByDomain(alpha=1.0, size=1), Difference(), Difference(keep=1.0), Difference(labels=False)),
    *(Difference(keep=0.1, refresh=3), GapByDomain(share=1.0, seed=4)),
    *(JointlyConfident(), JointlyConfident(theta=0.5, quota=3), JointlyConfident(size=7)),
    *(WeakClasses(), WeakClasses(size=9, patience=1, seed=2), WhereBehind(), Drawn(size=5)),
    *(WhereBehind(delta=0.0, easy=0.0), WhereBehind(measure="confidence", easy=1.0)),
]
ANSWERS = [KSAS(), KSAS(size=1), KSAS(direction="rare", share=0.2), KSAS(size=99, floor=3.0)]
WISHES = [OnDemand(), OnDemand(theta=0.0), OnDemand(theta=1.0), OnDemand(share=0.3)]


@pytest.mark.parametrize("part", REQUESTERS, ids=str)
def test_every_requester_keeps_its_promises(part):
    check_requester(part)


@pytest.mark.parametrize("part", WISHES, ids=str)
def test_every_wish_keeps_its_promises(part):
    check_wishing(part)


@pytest.mark.parametrize("part", ANSWERS, ids=str)
def test_E3_every_answer_keeps_its_promises(part):
    check_answering(part)


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


@pytest.mark.parametrize("part", REQUESTERS, ids=str)
def test_a_fusion_of_no_answers_teaches_a_requester_nothing(part):
    part = copy.deepcopy(part)
    mask = torch.zeros(1, 4, dtype=torch.bool)
    bank, teachers, index = taught(rows_with(0.6, 0.99, 0.55, 0.9), mask=mask, weight=mask.float())
    for round_ in (1, 2):
        part.note(bank, teachers, torch.tensor([0, 1, 0, 1]), round_, index)
        assert isinstance(part, Drawn) or part(round_ + 1, index, [0]).all()


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
    both = [-(math.log(0.9) + math.log(0.7)) / 2, -math.log(0.8)]
    torch.testing.assert_close(lesson.losses, torch.tensor(both))


def test_best_takes_ties_by_index_and_never_nothing():
    scores = torch.tensor([0.1, 0.7, torch.nan, 0.7])
    assert best(scores, 2).tolist() == [False, True, True, False]
    assert best(scores, 2, unknown="last").tolist() == [False, True, False, True]
    assert best(scores, 0, unknown="last").tolist() == [False, True, False, False]
    assert best(scores, 9).all()


def close(made, expected):
    torch.testing.assert_close(made, torch.tensor(expected), atol=1e-5, rtol=0)


def test_E1_shares_follow_the_gap_of_each_domain():
    losses = torch.tensor([4.0, 2.0, 2.0]).log()
    students = perplexities(losses, torch.tensor([0, 1, 1]), 2)
    close(students, [4.0, 2.0])
    ratios = students / torch.tensor([2.0, 2.0])
    first = shares(ratios, None, 0.5)
    close(first, [0.731059, 0.268941])
    close(shares(ratios, first, 1.0), [0.880797, 0.119203])
    close(shares(ratios, first, 0.5), [0.690399, 0.309601])


def test_E1_edges_of_shares():
    even = torch.tensor([3.0, 3.0, 3.0])
    third = shares(even, None, 0.5)
    close(third, [1 / 3] * 3)
    close(shares(even, third, 0.5), [1 / 3] * 3)
    far = torch.tensor([1e30, 1.0])
    close(shares(far, None, 0.5), [1.0, 0.0])
    close(shares(far, shares(far, None, 0.5), 0.5), [0.75, 0.25])
    for before in (None, torch.tensor([0.7, 0.3])):
        close(shares(torch.tensor([9.0, 1.0]), before, 0.0), [0.5, 0.5])
    close(shares(torch.tensor([2.0, torch.nan, 2.0]), None, 0.5), [0.5, 0.0, 0.5])
    gone = shares(torch.tensor([torch.nan, 1.0]), torch.tensor([1.0, 0.0]), 1.0)
    close(gone, [0.0, 1.0])


def test_E1_a_client_that_is_sure_of_the_wrong_class_is_far_behind_and_no_infinity():
    part, index = GapByDomain(size=1), torch.arange(4)
    logits = torch.tensor([[[1e4, 0.0], [0.0, 1e4], [0.0, 1e4], [0.0, 1e4]]])
    bank = KnowledgeBank(torch.tensor([0]), logits, torch.ones(1).long())
    target = torch.tensor([[[0.6, 0.4]] * 2 + [[0.4, 0.6]] * 2])
    truth = torch.tensor([0, 0, 1, 1])
    for round_ in (1, 2):
        part.note(
            bank, Teachers(bank.client_ids, target, Space.PROBABILITIES), truth, round_, index
        )
        assert part.memory["shares"].isfinite().all()
        assert part.memory["shares"][0] > part.memory["shares"][1]
        assert truth[part(round_ + 1, index, [0])].shape == (1,)


def test_E1_samples_are_drawn_by_their_domains_share():
    domains = torch.tensor([0] * 60 + [1] * 40)
    share, found = torch.tensor([0.75, 0.25]), torch.zeros(2)
    for seed in range(200):
        chosen = draw(share, domains, 10, torch.Generator().manual_seed(seed))
        assert int(chosen.sum()) == 10
        found += torch.bincount(domains[chosen], minlength=2) / 2000
    assert float(found[0]) == pytest.approx(0.75, abs=0.03)
    none = draw(torch.tensor([0.0, 1.0]), domains, 45, torch.Generator())
    assert torch.bincount(domains[none]).tolist() == [5, 40], "others when there are no more"


@pytest.mark.parametrize("labelled", [True, False])
def test_E1_domains_in_which_clients_trail_are_asked_for_more(labelled):
    """Of class 0 the clients say what the teacher says, of class 1 they are far from it."""
    truth = torch.arange(40) % 2
    teacher = torch.full((40, 2), 0.1).scatter(1, truth.unsqueeze(1), 0.9)
    students = torch.where((truth == 0).unsqueeze(1), teacher, teacher.flip(1) + 0.1) / torch.where(
        (truth == 0).unsqueeze(1), 1.0, 1.2
    )
    for part in (GapByDomain(size=10), GapByDomain(size=10, per_client=True)):
        index, asked_for = torch.arange(40), torch.zeros(2)
        for round_ in range(1, 6):
            bank, teachers, _ = taught(teacher, students=students)
            part.note(bank, teachers, truth if labelled else None, round_, index)
            chosen = part(round_ + 1, index, [0]).view(-1, 40)[0]
            assert int(chosen.sum()) == 10
            asked_for += torch.bincount(truth[chosen], minlength=2)
        assert asked_for[1] > 2 * asked_for[0]


def test_E1_a_domain_that_was_not_asked_for_keeps_its_gap():
    part = GapByDomain(size=1, alpha=1.0)
    bank, teachers, index = taught(rows_with(0.9, 0.2), students=rows_with(0.3, 0.3))
    part.note(bank, teachers, None, 1, index)
    before = part.memory["ratios"].clone()
    mask = torch.tensor([[True, False]])
    bank, teachers, _ = taught(
        rows_with(0.9, 0.2), students=rows_with(0.5, 0.3), mask=mask, weight=mask.float()
    )
    part.note(bank, teachers, None, 2, index)
    assert part.memory["ratios"][1] == before[1]
    assert part.memory["ratios"][0] < before[0]
    assert (part.memory["shares"] > 0).all()


def test_E1_each_client_may_be_asked_by_its_own_gap():
    truth = torch.arange(40) % 2
    right = torch.full((40, 2), 0.1).scatter(1, truth.unsqueeze(1), 0.9)
    says = [torch.where((truth == c).unsqueeze(1), right.flip(1), right) for c in (0, 1)]
    bank = KnowledgeBank(torch.tensor([2, 5]), torch.stack(says).log(), torch.ones(2).long())
    teachers = Teachers(bank.client_ids, right.expand(2, -1, -1), Space.PROBABILITIES)
    part, index = GapByDomain(size=8, per_client=True), torch.arange(40)
    part.note(bank, teachers, truth, 1, index)
    wanted = part(2, index, [2, 5, 7])
    assert wanted.sum(dim=1).tolist() == [8, 8, 8]
    assert torch.bincount(truth[wanted[0]], minlength=2)[0] >= 6
    assert torch.bincount(truth[wanted[1]], minlength=2)[1] >= 6


def test_E2_what_the_teacher_likes_better_is_kept():
    reference, teacher = (
        (-torch.tensor(losses)).exp().unsqueeze(1)
        for losses in ([1, 0.5, 2, 0.1], [0.5, 0.6, 0.2, 0.1])
    )
    both = [torch.cat([p, 1 - p], dim=1) for p in (reference, teacher)]
    scores = difference(*both, torch.zeros(4, dtype=torch.int64))
    close(scores, [0.5, -0.1, 1.8, 0.0])
    assert best(scores, 2).tolist() == [True, False, True, False]
    reference, teacher = (torch.tensor(rows_with(*p)) for p in ((0.5, 0.9, 0.6), (0.9, 0.9, 0.5)))
    close(difference(reference, teacher, None), [0.368064, 0.0, -0.020136])


def test_E2_the_reference_is_the_first_exchange_and_the_teacher_the_last():
    part = Difference()
    index = torch.arange(4)
    assert part(1, index, [0]).all()
    first = rows_with(0.6, 0.6, 0.6, 0.6)
    bank, teachers, _ = taught(rows_with(0.9, 0.65, 0.8, 0.5), students=first)
    part.note(bank, teachers, torch.zeros(4).long(), 1, index)
    assert part(2, index, [0]).tolist() == [True, False, True, False]
    bank, teachers, _ = taught(rows_with(0.1, 0.9, 0.8, 0.9), students=rows_with(*[0.99] * 4))
    part.note(bank, teachers, torch.zeros(4).long(), 2, index)
    assert part(3, index, [0]).tolist() == [False, True, False, True], "against the first, still"
    whole = Difference(keep=1.0)
    whole.note(bank, teachers, None, 1, index)
    assert whole(2, index, [0]).all()


def test_E2_where_the_target_is_the_reference_nothing_is_known_yet():
    """Under the plain mean the first target is the clients' mean: rounding must choose nothing."""
    part, index = Difference(), torch.arange(4)
    bank, teachers, _ = taught(rows_with(0.9, 0.6, 0.8, 0.7))
    part.note(bank, teachers, None, 1, index)
    assert part(2, index, [0]).tolist() == [True, True, False, False]
    mask = torch.tensor([[True, True, False, False]])
    bank, teachers, _ = taught(rows_with(*[0.99] * 4), mask=mask, weight=mask.float())
    part.note(bank, teachers, None, 2, index)
    assert part(3, index, [0]).tolist() == [False, False, True, True], "the others have their turn"


def test_E1_under_the_plain_mean_the_gap_is_the_clients_disagreement():
    """Clients agree on class 0 and contradict each other on class 1."""
    truth = torch.arange(40) % 2
    sure = torch.full((40, 2), 0.1).scatter(1, truth.unsqueeze(1), 0.9)
    other = torch.where((truth == 0).unsqueeze(1), sure, sure.flip(1))
    bank = KnowledgeBank(torch.arange(2), torch.stack([sure, other]).log(), torch.ones(2).long())
    mean = bank.logits.softmax(-1).mean(dim=0).expand(2, -1, -1)
    part = GapByDomain()
    part.note(
        bank, Teachers(bank.client_ids, mean, Space.PROBABILITIES), truth, 1, torch.arange(40)
    )
    assert part.memory["shares"][1] > part.memory["shares"][0] + 0.1


def test_E2_scores_wait_for_their_refresh():
    part, index = Difference(refresh=2), torch.arange(2)
    for round_, probs in enumerate(((0.9, 0.65), (0.6, 0.9), (0.6, 0.9)), start=1):
        bank, teachers, _ = taught(rows_with(*probs), students=rows_with(0.6, 0.6))
        part.note(bank, teachers, torch.zeros(2).long(), round_, index)
        assert part(round_ + 1, index, [0]).tolist() == [round_ < 3, round_ == 3]


def test_E3_disagreement_is_seen_through_the_class_counts():
    own, teacher = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)
    for counts, expected in (
        ((3.0, 1.0), 0.070384),
        ((1.0, 3.0), 0.112683),
        ((2.0, 2.0), 0.115529),
    ):
        close(discrepancy(own, teacher, torch.tensor(counts).log()), [expected])
    p, q = own.softmax(-1), teacher.softmax(-1)
    plain = ((p - q) * (p / q).log()).sum() / 2
    close(discrepancy(own, teacher, torch.tensor([5.0, 5.0]).log()), [float(plain)])
    assert discrepancy(own, own, torch.tensor([3.0, 1.0]).log()).tolist() == [0.0]


def test_E3_the_largest_are_answered_and_ties_by_index():
    draw_nothing = torch.Generator()
    own = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    last, counts = torch.zeros(4, 2), torch.tensor([4, 4])
    assert KSAS(size=2)(own, last, counts, draw_nothing).tolist() == [False, True, True, False]
    assert KSAS(size=2)(own, own, counts, draw_nothing).tolist() == [True, True, False, False]
    assert KSAS(size=2)(own, None, counts, draw_nothing).all(), "nothing is known"
    last[3] = torch.nan
    assert KSAS(size=2)(own, last, counts, draw_nothing).tolist() == [False, True, False, True]
    assert KSAS(size=9)(own, last, torch.tensor([0, 8]), draw_nothing).all()
    both = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    skewed, nothing = torch.tensor([9, 0]), torch.zeros(2, 2)
    one = KSAS(size=1)(both, nothing, skewed, draw_nothing)
    other = KSAS(size=1, direction="rare")(both, nothing, skewed, draw_nothing)
    assert one.tolist() == other.flip(0).tolist()


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
        lambda bad: GapByDomain(alpha=bad),
        lambda bad: GapByDomain(size=bad),
        lambda bad: Difference(keep=bad),
        lambda bad: Difference(refresh=bad),
        lambda bad: KSAS(floor=bad),
        lambda bad: KSAS(size=bad),
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
