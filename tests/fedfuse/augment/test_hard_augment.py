"""Turned and moved samples: the geometry, the score, and who is chosen."""

from __future__ import annotations

import math

import pytest
import torch

from fedfuse.augment import HardAugment, chosen
from fedfuse.augment.hard_augment import hardest, moved
from fedfuse.errors import ParameterError
from fedfuse.testing import check_augment, example_view
from fedfuse.user_code import PartError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randn(12, 2, 8, 8, generator=seeded(5))


def how(angle=0.0, right=0.0, down=0.0, scale=1.0, brighter=0.0) -> torch.Tensor:
    return torch.tensor([[angle, right, down, scale, brighter]])


def test_F2_by_hand():
    between = torch.tensor([[0.2, 0.0], [0.6, 0.0], [0.9, 0.0]])
    changed = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.8, 0.0]])
    assert hardest(between, changed).tolist() == [1, 0], "of equally good ones the first"
    assert hardest(between, changed, lambda_t=0).tolist()[0] == 2
    assert hardest(between, changed, lambda_s=0).tolist()[0] == 0


def test_F2_a_quarter_turn_a_whole_pixel_and_nothing():
    one = IMAGES[:1]
    quarter = moved(one, how(angle=math.pi / 2))
    torch.testing.assert_close(quarter, torch.rot90(one, -1, (2, 3)), atol=1e-5, rtol=1e-5)
    right = moved(one, how(right=1 / 8))
    torch.testing.assert_close(right[..., 1:], one[..., :-1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        right[..., 0], one[..., 0], atol=1e-5, rtol=1e-5
    )  # the border goes on
    down = moved(one, how(down=2 / 8))
    torch.testing.assert_close(down[:, :, 2:], one[:, :, :-2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved(one, how()), one, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved(one, how(brighter=0.5)), one + 0.5, atol=1e-5, rtol=1e-5)


def test_F2_turning_keeps_shapes_where_width_and_height_differ():
    wide = torch.zeros(1, 1, 8, 16)
    wide[0, 0, 4, 8:12] = 1.0  # a line to the right of the middle, which lies between pixels
    turned = moved(wide, how(angle=math.pi / 2))
    assert turned[0, 0, 4:8].sum() == pytest.approx(4, abs=0.5), "it hangs down and is as long"
    assert turned[0, 0, 4:8, 6:9].sum() == pytest.approx(4, abs=0.5)


def test_F2_twice_as_large_is_the_middle():
    ramp = torch.linspace(-1, 1, 9).expand(1, 1, 9, 9)
    larger = moved(ramp, how(scale=2.0))
    torch.testing.assert_close(larger, ramp / 2, atol=1e-5, rtol=1e-5)


def test_F2_candidates_are_within_their_bounds_and_the_first_is_the_sample():
    part = HardAugment(candidates=50, degrees=10, shift=0.2, scale=0.3, brightness=0.4)
    drawn = part.drawn(40, seeded())
    assert drawn.shape == (50, 40, 5)
    assert (drawn[0] == torch.tensor([0, 0, 0, 1, 0.0])).all()
    largest = (drawn - torch.tensor([0, 0, 0, 1, 0.0])).abs().amax(dim=(0, 1))
    bounds = torch.tensor([math.radians(10), 0.2, 0.2, 0.3, 0.4])
    assert (largest <= bounds + 1e-6).all()
    assert (largest > 0.9 * bounds).all()


def test_F2_all_sides_make_what_the_server_chose():
    part = HardAugment(lambda_t=0)
    look = example_view(IMAGES, 4)
    told = chosen(part, IMAGES, seeded(3), look)
    assert told.shape == (12, 1)
    assert told.unique().numel() > 2
    made = part(IMAGES, seeded(3), told)
    assert made.labels_kept
    drawn = part.drawn(12, seeded(3))
    for row, number in enumerate(told[:, 0].tolist()):
        expected = moved(IMAGES[row : row + 1], drawn[number, row : row + 1]) if number else None
        same = IMAGES[row : row + 1] if expected is None else expected
        torch.testing.assert_close(made.inputs[row : row + 1], same, atol=1e-5, rtol=1e-5)
    worst = part(IMAGES, seeded(3), torch.zeros(12, 1, dtype=torch.uint8)).inputs
    assert torch.equal(worst, IMAGES), "the first candidate is the sample to the bit"

    def disagreement(images: torch.Tensor) -> torch.Tensor:
        one, other = (look.ask(m, images).log_softmax(dim=1) for m in (look.now, look.earlier))
        return (one.exp() * (one - other)).sum(dim=1)

    assert (disagreement(made.inputs) >= disagreement(IMAGES) - 1e-6).all()
    assert float(disagreement(made.inputs).mean()) > float(disagreement(IMAGES).mean()) + 1e-3


def test_F2_one_candidate_or_a_teacher_that_must_not_change_its_mind_is_nothing():
    look = example_view(IMAGES, 4)
    for part in (HardAugment(candidates=1), HardAugment(lambda_t=1e9)):
        told = chosen(part, IMAGES, seeded(), look)
        assert told.tolist() == [[0]] * 12
        assert torch.equal(part(IMAGES, seeded(), told).inputs, IMAGES)
    assert torch.equal(HardAugment()(IMAGES, seeded(), None).inputs, IMAGES), "nothing was sent yet"


@pytest.mark.parametrize("part", [HardAugment(), HardAugment(candidates=2, lag=1)], ids=str)
def test_it_keeps_the_contract(part):
    check_augment(part)


class Whole(HardAugment):
    def choose(self, inputs, generator, view):
        return torch.zeros(len(inputs), 1)


def test_what_cannot_be_sent_is_named():
    with pytest.raises(PartError, match=r"Whole chose nothing that can be sent.*uint8 of shape"):
        chosen(Whole(), IMAGES, seeded(), example_view(IMAGES, 3))


@pytest.mark.parametrize(
    "given",
    [
        {"candidates": 0},
        {"candidates": 257},
        {"candidates": 2.5},
        {"degrees": 181},
        {"shift": 1},
        {"scale": 1},
        {"brightness": math.nan},
        {"lambda_s": -1},
        {"lambda_t": math.inf},
        {"lag": 0},
        {"lag": True},
    ],
)
def test_impossible_parameters_are_refused(given):
    with pytest.raises(ParameterError, match=f"'{next(iter(given))}' parameter of HardAugment"):
        HardAugment(**given)
