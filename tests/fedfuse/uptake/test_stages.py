"""Stages of uptake: their formulas by hand, their edges, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from fedfuse.arrival import Arrival
from fedfuse.errors import ParameterError
from fedfuse.rng import Streams
from fedfuse.testing import CheckFailed, check_uptake
from fedfuse.types import Space, Teachers
from fedfuse.uptake import (
    Chain,
    Clock,
    Gap,
    Homeostatic,
    OwnOrTeacher,
    RareClasses,
    TwoTeachers,
    take_up,
)
from fedfuse.uptake.chain import taught_share, weighed
from fedfuse.uptake.homeostatic import look_again, spread, teachers_share
from fedfuse.uptake.rare_classes import rarity
from fedfuse.user_code import PartError

STAGES = [
    *(OwnOrTeacher(), OwnOrTeacher("label"), OwnOrTeacher(soft=0.1), OwnOrTeacher(temperature=3.0)),
    *(RareClasses(), RareClasses("max"), Homeostatic(), Homeostatic(passes=2, shift=0)),
    *(Gap(), Gap(by="label"), Gap("pgkd", theta=0.3), Gap("pgkd", "label")),
    *(Clock(), Clock(adaptive=False), Clock(0.0), TwoTeachers(), TwoTeachers(0.1, temperature=2.0)),
    Chain([OwnOrTeacher("label"), Homeostatic(), RareClasses()]),
    Chain({"clock": Clock(), "two": TwoTeachers(), "gap": Gap()}),
]


def logs(*rows):
    """Logits [1, m, C] of these probabilities."""
    return torch.tensor([rows]).log()


def arrived(own, counts=None, labels=None, ask=None):
    k, m, classes = own.shape
    counts = torch.ones(k, classes, dtype=torch.int64) if counts is None else torch.tensor(counts)
    memory = {i: {} for i in range(k)}
    inputs = torch.zeros(m, 1, 4, 4)
    labels = None if labels is None else torch.tensor(labels)
    ask = ask or (lambda _: own)
    return Arrival(
        "method", 2, torch.arange(m), counts, memory, Streams(0), labels=labels, inputs=inputs,
        ask=ask,
    )  # fmt: skip


def teachers(*rows, weight=None):
    weight = None if weight is None else torch.tensor([weight])
    return Teachers(torch.tensor([0]), torch.tensor([rows]), Space.PROBABILITIES, weight)


@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_stages_keep_their_promises(stage):
    check_uptake(stage)


# -- C1: own_or_teacher ------------------------------------------------------------------------


OWN = logs([0.880797, 0.119203], [0.880797, 0.119203])
SENT = ([0.3, 0.7], [0.05, 0.95])


def test_C1_own_stays_unless_the_teacher_is_surer():
    at = arrived(OWN)
    made = take_up(OwnOrTeacher(), teachers(*SENT), at)
    expected = torch.tensor([[[0.880797, 0.119203], [0.05, 0.95]]])
    torch.testing.assert_close(made.targets, expected, atol=1e-5, rtol=0)
    assert made.sample_weight is None
    assert taught_share(made, at).tolist() == [0.5]


def test_C1_by_label_the_probability_of_the_label_decides():
    made = take_up(OwnOrTeacher("label"), teachers(*SENT), arrived(OWN, labels=[1, 0]))
    torch.testing.assert_close(made.targets[0, 0], torch.tensor([0.3, 0.7]))
    torch.testing.assert_close(made.targets[0, 1], torch.tensor([0.880797, 0.119203]))


def test_C1_a_tie_is_ones_own_and_an_equal_teacher_teaches_nothing():
    own = logs([0.25, 0.75], [0.5, 0.5])
    at = arrived(own)
    same = Teachers(torch.tensor([0]), own.softmax(-1).flip(-1), Space.PROBABILITIES)
    made = take_up(OwnOrTeacher(), same, at)
    assert torch.equal(made.targets, own.softmax(-1))
    assert float(taught_share(made, at)) == 0


def test_C1_the_soft_gate_is_a_sigmoid_and_tends_to_the_hard_one():
    lead = 0.7 - 0.880797
    share = 1 / (1 + math.exp(-lead / 0.2))
    made = take_up(OwnOrTeacher(soft=0.2), teachers(*SENT), arrived(OWN))
    first = share * 0.3 + (1 - share) * 0.880797
    assert float(made.targets[0, 0, 0]) == pytest.approx(first, abs=1e-5)
    sharp, hard = (
        take_up(OwnOrTeacher(soft=s), teachers(*SENT), arrived(OWN)).targets for s in (1e-4, 0.0)
    )
    torch.testing.assert_close(sharp, hard)


def test_C1_logits_stay_logits_and_are_the_clients_own_where_it_is_surer():
    own = torch.tensor([[[3.0, 0.0], [0.1, 0.0]]])
    sent = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    came = Teachers(torch.tensor([0]), sent, Space.LOGITS)
    made = take_up(OwnOrTeacher(), came, arrived(own))
    assert made.space is Space.LOGITS
    assert made.targets.tolist() == [[[3.0, 0.0], [0.0, 1.0]]]


# -- C2: rare_classes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "unseen", "expected"),
    [
        ([6, 3, 1], "zero", [0.111111, 0.222222, 0.666667]),
        ([6, 3, 0], "zero", [0.333333, 0.666667, 0.0]),
        ([6, 3, 0], "max", [0.2, 0.4, 0.4]),
        ([5, 5, 5], "zero", [1 / 3] * 3),
        ([0, 0, 0], "zero", [1 / 3] * 3),
        ([0, 0, 0], "max", [1 / 3] * 3),
        ([0, 2**40, 1], "zero", [0.0, 0.0, 1.0]),
    ],
)
def test_C2_rarity_by_hand(counts, unseen, expected):
    found = rarity(torch.tensor([counts]), unseen)
    torch.testing.assert_close(found, torch.tensor([expected]), atol=1e-5, rtol=0)


def test_C2_samples_count_by_the_rarity_of_the_teachers_class():
    sent = teachers([0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.9, 0.1, 0.0], weight=[1.0, 0.5, 0.0])
    at = arrived(torch.zeros(1, 3, 3), counts=[[6, 3, 1]])
    made = take_up(RareClasses(), sent, at)
    torch.testing.assert_close(made.sample_weight, torch.tensor([[0.666667, 1.0, 0.0]]))
    assert torch.equal(made.targets, sent.targets)
    mixed = 0.7 * rarity(at.class_counts)[0, 2] + 0.3 * rarity(at.class_counts)[0, 0]
    assert float(mixed) == pytest.approx(0.5, abs=1e-5)  # what the authors' mixing makes of it


def test_C2_equal_counts_weigh_nothing_and_a_client_that_knows_only_other_classes_is_told():
    sent = teachers([0.2, 0.8], [0.9, 0.1])
    even = take_up(RareClasses(), sent, arrived(torch.zeros(1, 2, 2), counts=[[4, 4]]))
    assert even.sample_weight.tolist() == [[1.0, 1.0]]
    none = replace(sent, targets=torch.tensor([[[0.1, 0.9], [0.2, 0.8]]]))
    at = arrived(torch.zeros(1, 2, 2), counts=[[4, 0]])
    made = take_up(RareClasses(), none, at)
    assert made.sample_weight.tolist() == [[0.0, 0.0]]
    assert taught_share(made, at).tolist() == [0.0]


# -- C3: homeostatic ---------------------------------------------------------------------------


def test_C3_spread_and_shares_by_hand():
    passes = torch.tensor([[[[2.0, 0.0]]], [[[0.0, 0.0]]]])
    assert float(spread(passes, 0.1)) == pytest.approx(0.1)
    assert float(spread(100 * passes, 0.1)) == 1
    uncertainty = torch.tensor([[0.25, 0.1, 0.0, 1.0]])
    share = teachers_share(uncertainty, 0.2)
    fused, own = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    mixed = share.unsqueeze(-1) * fused + (1 - share.unsqueeze(-1)) * own
    expected = torch.tensor([[[0.65, 0.35], [0.72, 0.28], [0.7, 0.3], [0.5, 0.5]]])
    torch.testing.assert_close(mixed, expected)


def test_C3_it_asks_seeded_copies_and_mixes():
    """Two passes whose logits are (2, 0) and (0, 0): U = 0.1, below the threshold."""
    own = logs([0.9, 0.1])
    answers = iter([torch.tensor([[[2.0, 0.0]]]), torch.zeros(1, 1, 2), own])
    seen = []

    def ask(inputs):
        seen.append(inputs)
        return next(answers)

    at = arrived(own, ask=ask)
    made = take_up(Homeostatic(passes=2), teachers([0.5, 0.5]), at)
    torch.testing.assert_close(made.targets, torch.tensor([[[0.72, 0.28]]]))
    assert at.report["uncertainty"].tolist() == pytest.approx([0.1])
    assert taught_share(made, at).tolist() == pytest.approx([0.45])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], at.inputs), "what is mixed in is what it says of the sample itself"


def test_C3_copies_are_other_ones_in_every_round_and_the_same_when_asked_again():
    seen = []

    def ask(inputs):
        seen.append(inputs)
        return torch.zeros(1, 1, 2)

    for round_ in (2, 2, 3):
        at = replace(arrived(torch.zeros(1, 1, 2), ask=ask), round=round_)
        take_up(Homeostatic(passes=2), teachers([0.5, 0.5]), at)
    first, again, other = seen[0], seen[3], seen[6]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_C3_passes_that_agree_give_the_mean_of_both():
    made = take_up(Homeostatic(), teachers([0.5, 0.5]), arrived(logs([0.9, 0.1])))
    torch.testing.assert_close(made.targets, torch.tensor([[[0.7, 0.3]]]))


def test_C3_pictures_move_and_tables_only_tremble():
    draw = torch.Generator().manual_seed(3)
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    moved = {look_again(picture, draw, 1, 0.0).sum().item() for _ in range(20)}
    assert len(moved) > 3
    row = torch.arange(3.0).view(1, 3)
    assert torch.equal(look_again(row, draw, 1, 0.0), row)
    trembled = look_again(row.expand(1000, 3), draw, 1, 0.5) - row
    assert float(trembled.std()) == pytest.approx(0.5, rel=0.1)


# -- C4: gap -----------------------------------------------------------------------------------


def test_C4_who_is_ahead_by_hand():
    own = logs([0.5, 0.3, 0.2], [0.6, 0.2, 0.2], [0.55, 0.25, 0.2])
    sent = teachers([0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2])
    made = take_up(Gap(), sent, arrived(own))
    assert made.sample_weight.tolist() == [[2.0, 0.0, 1.0]]
    far = take_up(Gap(delta=1.0), sent, arrived(own))
    assert far.sample_weight.tolist() == [[1.0, 1.0, 1.0]]
    by_label = take_up(Gap(by="label"), sent, arrived(own, labels=[1, 1, 1]))
    assert by_label.sample_weight.tolist() == [[0.0, 1.0, 1.0]]


def test_C4_sure_mistakes_count_more():
    own = logs([0.9, 0.1], [0.6, 0.4], [0.9, 0.1])
    sent = teachers([0.2, 0.8], [0.2, 0.8], [0.8, 0.2])
    stage = partial(take_up, teachers=sent)
    assert stage(Gap("pgkd"), at=arrived(own)).sample_weight.tolist() == [[2.0, 1.0, 1.0]]
    known = arrived(own, labels=[0, 1, 1])
    assert stage(Gap("pgkd", "label"), at=known).sample_weight.tolist() == [[1.0, 1.0, 2.0]]


# -- chain, contract, constructors -------------------------------------------------------------


def test_a_chain_hands_on_and_the_share_is_that_of_all():
    at = arrived(OWN, counts=[[1, 0]])
    chain = Chain([OwnOrTeacher(), RareClasses()])
    made = take_up(chain, teachers(*SENT), at)
    assert made.sample_weight.tolist() == [[2.0, 0.0]], "the own target's class is the known one"
    assert taught_share(made, at).tolist() == [0.0]


def test_labels_are_for_stages_that_declare_it():
    seen = []

    def look(sent, at):
        seen.append(at.labels)
        return sent

    def read(sent, at):
        seen.append(at.labels.tolist())
        return sent

    read.needs_labels = True
    take_up(look, teachers(*SENT), arrived(OWN, labels=[1, 0]))
    take_up(Chain([read, look]), teachers(*SENT), arrived(OWN, labels=[1, 0]))
    assert seen == [None, [1, 0], None]


def test_own_is_predicted_once():
    calls = []
    at = arrived(OWN, ask=lambda _: calls.append(1) or OWN)
    take_up(Chain([OwnOrTeacher(), Gap(), Clock(), TwoTeachers()]), teachers(*SENT), at)
    assert len(calls) == 1


def broken(change):
    return lambda sent, at: change(sent)


BROKEN = {
    "did not return teachers": lambda t: t.targets,
    "teachers of its clients": lambda t: replace(t, client_ids=t.client_ids + 1),
    "did not return targets": lambda t: replace(t, targets=t.targets[:, :1]),
    "NaN or infinite": lambda t: replace(t, targets=t.targets / 0 * 0),
    "left the simplex": lambda t: replace(t, targets=2 * t.targets),
    "made logits of probabilities": lambda t: replace(t, space=Space.LOGITS),
    "negative or infinite": lambda t: weighed(t, -torch.ones(1, 2)),
    "nobody answered": lambda t: replace(t, sample_weight=torch.ones(1, 2)),
    "did not return sample weights": lambda t: replace(t, sample_weight=None),
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_broken_promise_is_named(says):
    with pytest.raises(PartError, match=says):
        take_up(broken(BROKEN[says]), teachers(*SENT, weight=[0.0, 1.0]), arrived(OWN))


def test_a_metric_that_is_none_is_refused():
    def tell(sent, at):
        at.report["mood"] = torch.tensor([float("nan")])
        return sent

    with pytest.raises(PartError, match="reports 'mood'"):
        take_up(tell, teachers(*SENT), arrived(OWN))


def stopped(sent, at):
    at.memory[0]["clock/t"] = torch.tensor(1.5)
    return sent


stopped.sets_clock = True


def test_a_clock_that_does_not_go_is_named():
    at = arrived(OWN)
    with pytest.raises(PartError, match=r"did not set the clock of client 0.*got 1\.5"):
        take_up(stopped, teachers(*SENT), at)
    silent = partial(lambda sent, at: sent)
    silent.sets_clock = True
    with pytest.raises(PartError, match=r"did not set the clock of client 0.*got None"):
        take_up(silent, teachers(*SENT), arrived(OWN))


def careless(sent, at):
    return weighed(sent, torch.rand(sent.targets.shape[:2]))


def sociable(sent, at):
    return weighed(sent, at.own().amax(dim=(0, 2)).exp().expand(sent.targets.shape[:2]))


def scribbler(sent, at):
    for memory in at.memory.values():
        memory["round"] = at.round
    return sent


def nosy(sent, at):
    """Weigh by what the cohort, this client or another, said a lesson ago."""
    weight = torch.ones(sent.targets.shape[:2])
    for memory in at.memory.values():
        weight = weight * memory.get("nosy/seen", torch.tensor(1.0))
    for row, memory in zip(at.own(), at.memory.values(), strict=True):
        memory["nosy/seen"] = row.amax().exp()
    return weighed(sent, weight)


def in_place(sent, at):
    sent.sample_weight.mul_(0.5)
    return sent


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (careless, "another result|global random"),
        (sociable, "rest of the cohort"),
        (in_place, "changes its inputs"),
        (scribbler, "remembers what no state of a client holds"),
        (nosy, "rest of the cohort"),
        (broken(BROKEN["left the simplex"]), "left the simplex"),
    ],
)
def test_the_check_finds_what_is_broken(stage, says):
    with pytest.raises(CheckFailed, match=says):
        check_uptake(stage)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OwnOrTeacher(by="labels"),
        lambda: OwnOrTeacher(soft=-0.1),
        lambda: OwnOrTeacher(soft=float("nan")),
        lambda: OwnOrTeacher(temperature=0),
        lambda: RareClasses(unseen="most"),
        lambda: Homeostatic(passes=1),
        lambda: Homeostatic(passes=True),
        lambda: Homeostatic(threshold=1.5),
        lambda: Homeostatic(noise=float("inf")),
        lambda: Homeostatic(shift=-1),
        lambda: Gap(form="both"),
        lambda: Gap(boost=-1),
        lambda: Gap(theta=2),
        lambda: Chain([]),
        lambda: Chain([None]),
        lambda: Chain([Clock(), Chain([Clock()])]),
        lambda: Chain("own_or_teacher"),
    ],
)
def test_what_is_impossible_is_refused(make):
    with pytest.raises(ParameterError, match="parameter of"):
        make()


def test_W7_a_chain_remembers_samples_if_any_stage_does():
    plain, past = OwnOrTeacher(), TwoTeachers()
    assert Chain([plain, past]).remembers_samples
    assert not Chain([plain]).remembers_samples
