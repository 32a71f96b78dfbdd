"""The teacher and what one said oneself a lesson ago: by hand, and what is remembered."""

from __future__ import annotations

import math

import pytest
import torch

from fedfuse.arrival import Arrival
from fedfuse.errors import ParameterError
from fedfuse.rng import Streams
from fedfuse.types import Space, Teachers
from fedfuse.uptake import TwoTeachers, take_up
from fedfuse.uptake.chain import taught_share
from fedfuse.uptake.two_teachers import likeness, teachers_weight


def lesson(memory, own, told, index=(0,), stage=TwoTeachers(), weight=None):  # noqa: B008
    """Let one client take a lesson about public samples; return its targets and the share."""
    own = torch.tensor([own]).log()
    counts = torch.ones(1, own.shape[-1], dtype=torch.int64)
    at = Arrival(
        "method", 2, torch.tensor(index), counts, {0: memory}, Streams(0),
        labels=None, inputs=torch.zeros(len(index), 1), ask=lambda _: own,
    )  # fmt: skip
    weight = None if weight is None else torch.tensor([weight])
    sent = Teachers(torch.tensor([0]), torch.tensor([told]), Space.PROBABILITIES, weight)
    made = take_up(stage, sent, at)
    return made.targets[0], float(taught_share(made, at))


def test_C5_weights_and_target_by_hand():
    share = teachers_weight(torch.tensor([0.9]), torch.tensor([0.5]), tau=1.0)
    assert float(share) == pytest.approx(0.598688, abs=1e-6)
    mixed = share * torch.tensor([0.8, 0.2]) + (1 - share) * torch.tensor([0.4, 0.6])
    torch.testing.assert_close(mixed, torch.tensor([0.639475, 0.360525]), atol=1e-5, rtol=0)


def test_C5_without_a_past_the_teacher_alone_and_with_equal_likenesses_the_mean():
    memory = {}
    targets, share = lesson(memory, [[0.4, 0.6]], [[0.8, 0.2]])
    assert targets.tolist() == [[pytest.approx(0.8), pytest.approx(0.2)]]
    assert share == 1
    # A single sample is its class's mean: both likenesses are 1. What was said is what counts,
    # not what the client says now.
    targets, share = lesson(memory, [[0.9, 0.1]], [[0.8, 0.2]])
    torch.testing.assert_close(targets, torch.tensor([[0.6, 0.4]]))
    assert share == pytest.approx(0.5)


def test_C5_who_is_typical_of_the_class_that_it_names_weighs_more():
    """The teacher says (1, 0) and (.6, .4), both class 0; its sum is (1.6, .4)."""
    told, past = [[1.0, 0.0], [0.6, 0.4]], [[0.7, 0.3], [0.7, 0.3]]
    of_teacher = [
        1.6 / math.hypot(1.6, 0.4),
        (0.96 + 0.16) / math.hypot(1.6, 0.4) / math.hypot(0.6, 0.4),
    ]
    found = likeness(torch.tensor(told), torch.tensor([True, True]))
    assert found.tolist() == pytest.approx(of_teacher, abs=1e-6)
    memory = {}
    lesson(memory, past, told, (3, 7))
    stage = TwoTeachers(tau=0.1)
    targets, share = lesson(memory, past, told, (3, 7), stage)
    weights = [1 / (1 + math.exp(-(like - 1) / 0.1)) for like in of_teacher]
    expected = [w * t[0] + (1 - w) * 0.7 for w, t in zip(weights, told, strict=True)]
    assert targets[:, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert share == pytest.approx(sum(weights) / 2, abs=1e-5)


def test_C5_what_was_said_belongs_to_its_public_sample():
    memory = {}
    told = [[0.8, 0.2], [0.3, 0.7]]
    lesson(memory, [[0.4, 0.6], [0.9, 0.1]], told, (2, 5))
    targets, share = lesson(memory, [[0.5, 0.5], [0.5, 0.5]], told, (5, 9))
    torch.testing.assert_close(targets[0], torch.tensor([(0.8 + 0.9) / 2, (0.2 + 0.1) / 2]))
    torch.testing.assert_close(targets[1], torch.tensor([0.3, 0.7]))
    assert share == pytest.approx(0.75)
    assert memory["two_teachers/index"].tolist() == [5, 9], "of the last lesson, no more"
    targets, share = lesson(memory, [[0.5, 0.5]], [[0.8, 0.2]], (2,))
    assert share == 1


def test_C5_samples_that_do_not_count_are_no_part_of_a_mean():
    probs = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    assert likeness(probs, torch.tensor([True, False])).tolist()[0] == pytest.approx(1)
    memory, other, third = {}, {}, {}
    for kept, nobodys, said in (
        (memory, [0.6, 0.4], [0.7, 0.3]),
        (other, [1.0, 0.0], [0.7, 0.3]),
        (third, [0.6, 0.4], [0.99, 0.01]),
    ):
        for _ in range(2):
            targets, _ = lesson(
                kept, [[0.7, 0.3], said], [[0.9, 0.1], nobodys], (0, 1), weight=[1.0, 0.0]
            )
        kept["first"] = targets[0]
    assert torch.equal(memory["first"], other["first"])
    assert torch.equal(memory["first"], third["first"])


@pytest.mark.parametrize("wrong", [{"tau": 0}, {"tau": float("inf")}, {"temperature": -1}])
def test_C5_what_is_impossible_is_refused(wrong):
    with pytest.raises(ParameterError, match="parameter of TwoTeachers"):
        TwoTeachers(**wrong)
