"""A client's clock: its formula by hand, and what it does with lessons that are missing or odd."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedfuse.arrival import Arrival
from fedfuse.errors import ParameterError
from fedfuse.rng import Streams
from fedfuse.types import Space, Teachers
from fedfuse.uptake import Chain, Clock, Gap, take_up

OWN = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
TOLD = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]]).softmax(dim=-1)


def lesson(stage, memory, own=OWN, told=TOLD, weight=None, round_=2):
    """Let one client take a lesson; return the t of it."""

    def ask(_):
        assert own is not None, "nobody has to ask the model"
        return own

    at = Arrival(
        "method", round_, torch.arange(2), torch.ones(1, 2, dtype=torch.int64), {0: memory},
        Streams(0), labels=None, inputs=torch.zeros(2, 1), ask=ask,
    )  # fmt: skip
    weight = None if weight is None else torch.tensor([weight])
    take_up(stage, Teachers(torch.tensor([0]), told, Space.PROBABILITIES, weight), at)
    assert at.report["clock"].tolist() == [float(memory["clock/t"])]
    return float(memory["clock/t"])


def loss_at(t, own=(1.0, 0.0), told=(2.0, 0.0)):
    """KL of a two-class target between own and told and own, by hand."""
    gap_own = own[0] - own[1]
    gap_mixed = (1 - t) * gap_own + t * (told[0] - told[1])
    r, p = (1 / (1 + math.exp(-gap)) for gap in (gap_mixed, gap_own))
    return r * math.log(r / p) + (1 - r) * math.log((1 - r) / (1 - p))


def test_A5_a_tick_by_hand():
    for alpha, expected in ((0.05, 0.415015), (5e-4, 0.400150)):
        ticked = Clock(alpha=alpha).tick(0.4, 0.0, before=1.0, loss=0.8, progress=0.0)
        assert ticked.t == pytest.approx(expected, abs=1e-6)
        assert ticked.momentum == pytest.approx(0.002, abs=1e-9)


def test_A5_the_first_lesson_leaves_its_loss_alone_and_t_is_used_before_it_is_set_on():
    memory = {}
    stage = Clock(ramp_rounds=1000)
    assert lesson(stage, memory) == pytest.approx(0.4)
    loss = (loss_at(0.4) + loss_at(0.4, (2.0, 0.0), (3.0, 0.0))) / 2
    assert float(memory["clock/loss"]) == pytest.approx(loss, abs=1e-6)
    assert float(memory["clock/momentum"]) == 0
    nearer = OWN + 0.25 * (TOLD.log() - OWN)
    assert lesson(stage, memory, nearer) == pytest.approx(0.4), "the first loss compares nothing"
    second = float(memory["clock/loss"])
    momentum = 0.01 * (loss - second) / loss
    assert float(memory["clock/momentum"]) == pytest.approx(momentum, abs=1e-6)
    sigmoid = 1 / (1 + math.exp(-momentum))
    assert lesson(stage, memory) == pytest.approx(0.4 + 0.05 * sigmoid * 0.6, abs=1e-6)


def test_A5_every_clock_arrives_with_the_ramp_stays_there_and_never_falls():
    memory, shown = {}, []
    for _ in range(14):
        own = OWN + torch.randn(OWN.shape, generator=torch.Generator().manual_seed(len(shown)))
        shown.append(lesson(Clock(t_start=0.2, t_end=0.9), memory, own))
    assert shown == sorted(shown)
    assert shown[0] == pytest.approx(0.2)
    line = [0.2 + 0.07 * lesson for lesson in range(11)]
    assert all(t >= least - 1e-6 for t, least in zip(shown[2:], line[1:], strict=False))
    assert shown[11:] == pytest.approx([0.9] * 3)


def test_A5_not_adaptive_it_is_the_line_and_asks_nobody():
    memory = {}
    shown = [lesson(Clock(adaptive=False, ramp_rounds=3), memory, own=None) for _ in range(5)]
    assert shown == pytest.approx([0.4, 0.6, 0.8, 1.0, 1.0])


@pytest.mark.parametrize("adaptive", [True, False])
def test_A5_rounds_that_a_client_misses_and_lessons_of_nothing_do_not_move_its_clock(adaptive):
    through, missed, stage = {}, {}, Clock(adaptive=adaptive, ramp_rounds=4)
    steady = [lesson(stage, through, round_=round_) for round_ in (2, 3, 4, 5)]
    odd = [lesson(stage, missed, round_=round_) for round_ in (2, 3)]
    before = dict(missed)
    nothing = lesson(stage, missed, weight=[0.0, 0.0], own=-3 * OWN, round_=7)
    assert nothing == pytest.approx(steady[2]), "it shows the time all the same"
    assert {**missed, "clock/t": 0} == {**before, "clock/t": 0}
    odd += [lesson(stage, missed, round_=round_) for round_ in (9, 30)]
    assert odd == steady
    assert missed == through


def test_A5_samples_count_by_their_weight():
    some, memory = {}, {}
    lesson(Clock(), some, weight=[1.0, 0.0])
    assert float(some["clock/loss"]) == pytest.approx(loss_at(0.4), abs=1e-6)
    lesson(Clock(), memory, weight=[3.0, 1.0])
    both = (3 * loss_at(0.4) + loss_at(0.4, (2.0, 0.0), (3.0, 0.0))) / 4
    assert float(memory["clock/loss"]) == pytest.approx(both, abs=1e-6)


def test_A5_a_loss_of_0_before_and_one_out_of_all_bounds_after_it_are_no_trouble():
    stage = Clock(ramp_rounds=1000)
    assert stage.tick(0.5, 0.3, before=0.0, loss=1.0, progress=0).momentum == 0.3 * 0.99
    wild = stage.tick(0.5, 0.0, before=1e-12, loss=1e6, progress=0)
    assert wild.t == pytest.approx(0.5)
    memory = {}
    assert [lesson(stage, memory, told=OWN.softmax(-1)) for _ in range(3)][1] == pytest.approx(0.4)


def test_A5_teachers_that_are_logits_are_read_at_the_temperature():
    plain, hot = {}, {}
    lesson(Clock(), plain)
    at = Arrival(
        "method", 2, torch.arange(2), torch.ones(1, 2, dtype=torch.int64), {0: hot}, Streams(0),
        labels=None, inputs=torch.zeros(2, 1), ask=lambda _: 2 * OWN,
    )  # fmt: skip
    logits = 2 * TOLD.log() + 5
    take_up(Clock(temperature=2.0), Teachers(torch.tensor([0]), logits, Space.LOGITS), at)
    assert float(hot["clock/loss"]) == pytest.approx(float(plain["clock/loss"]), abs=1e-6)


def test_A5_in_a_chain_it_looks_at_what_the_stages_before_it_have_made():
    memory, alone = {}, {}
    behind = torch.tensor([[[0.9, 0.1], [0.4, 0.6]]])  # the client is surer of the second sample
    lesson(Chain([Gap(), Clock()]), memory, told=behind)
    lesson(Clock(), alone, told=behind, weight=[2.0, 0.0])
    assert memory == alone


@pytest.mark.parametrize(
    "wrong",
    [
        *({"t_start": -0.1}, {"t_start": 1.1}, {"t_start": float("nan")}, {"t_start": True}),
        *({"t_end": 0.0}, {"t_end": 0.3}, {"t_end": 2}, {"ramp_rounds": 0}, {"ramp_rounds": 2.5}),
        *({"adaptive": 1}, {"alpha": -1}, {"alpha": 2}, {"beta": 1.5}, {"temperature": 0}),
    ],
)
def test_A5_what_is_impossible_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(ParameterError, match=f"'{name}' parameter of Clock"):
        replace(Clock(), **wrong)
