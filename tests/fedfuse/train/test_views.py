"""Crops and mirror images: drawn before, alike for whoever takes the steps."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fedfuse.distill import KL
from fedfuse.models.cnn import cnn2
from fedfuse.train import padded
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.joint import Fit, Joint
from fedfuse.train.loop import _batches
from fedfuse.train.padded import pad
from fedfuse.train.trainer import LoopTrainer
from fedfuse.train.views import CropFlip, Views, check_views
from fedfuse.user_code import PartError
from tests.fedfuse.train.test_batched import OPTIMIZERS, assert_same, private, taught, twins

BLACK = (-0.5,)


def seen(works, seed=0, augment=CropFlip(padding=3)):  # noqa: B008 - frozen
    """Let each client's steps see what is drawn for it."""
    made = []
    for client_id, work in enumerate(works):
        anchor = work.anchor
        if anchor is not None:  # a lesson is not changed, what is private beside it is
            work = replace(work, anchor=seen([anchor], seed + client_id, augment)[0])
        else:
            rng = torch.Generator().manual_seed(1000 * seed + client_id)
            draws = augment.draw(len(work.schedule.order), rng)
            work = replace(work, views=Views(augment, draws, BLACK))
        made.append(work)
    return made


def test_a_crop_is_cut_out_of_the_padded_image_and_mirrored():
    augment, rng = CropFlip(padding=2), torch.Generator().manual_seed(0)
    inputs, empty = torch.randn(64, 3, 5, 7, generator=rng), torch.tensor([-1.0, -2.0, -3.0])
    draws = augment.draw(64, rng)
    assert draws[:, :2].min() == -2
    assert draws[:, :2].max() == 2
    assert set(draws[:, 2].tolist()) == {0, 1}
    before = inputs.clone()
    made = augment(inputs, draws, empty)
    assert torch.equal(inputs, before)
    for image, (down, right, mirrored), cut in zip(inputs, draws.tolist(), made, strict=True):
        wide = F.pad(image - empty[:, None, None], (2, 2, 2, 2)) + empty[:, None, None]
        crop = wide[:, 2 + down : 7 + down, 2 + right : 9 + right]
        torch.testing.assert_close(cut, crop.flip(2) if mirrored else crop)


def test_half_are_mirrored_and_nothing_else_is_possible_without_padding():
    draws = CropFlip(padding=0).draw(4000, torch.Generator().manual_seed(0))
    assert not draws[:, :2].any()
    assert draws[:, 2].float().mean() == pytest.approx(0.5, abs=0.03)
    still = CropFlip(padding=0, flip=0).draw(10, torch.Generator())
    inputs = torch.randn(10, 1, 4, 4)
    assert torch.equal(CropFlip()(inputs, still, torch.zeros(1)), inputs)


def test_each_step_sees_a_sample_anew():
    [work] = seen(private(sizes=(4,), batch=4, epochs=3))
    batches = [inputs for inputs, _, _ in _batches(work)]
    by_sample = [
        batch[order.argsort()]
        for batch, order in zip(batches, work.schedule.order.split(4), strict=True)
    ]
    assert not torch.equal(by_sample[0], by_sample[1])
    assert not torch.equal(by_sample[1], by_sample[2])


def test_many_clients_see_bitwise_what_each_would_alone(monkeypatch):
    works = seen(private(epochs=2))
    monkeypatch.setattr("fedfuse.train.loop._BLOCK", 8)  # several blocks of steps
    alone = [list(_batches(work)) for work in works]
    order = sorted(range(3), key=lambda i: -works[i].schedule.num_steps)
    together = pad([works[i] for i in order])
    for step, active in enumerate(together.active):
        inputs, targets, _ = together.batch(step)
        for row in range(active):
            own_inputs, own_targets, _ = alone[order[row]][step]
            assert torch.equal(inputs[row, : len(own_inputs)], own_inputs)
            assert torch.equal(targets[row, : len(own_targets)], own_targets)


@pytest.mark.parametrize("patches", [None, True])
def test_many_clients_learn_as_in_the_loop(patches):
    ours, theirs = twins(cnn2, OPTIMIZERS["momentum"])
    trainer = BatchedTrainer(patches=patches)
    for works in (seen(private(0)), seen(taught(KL(), anchored=True), 1), private(1)):
        expected = LoopTrainer().fit(theirs, works)
        assert trainer.fit(ours, works) == pytest.approx(expected, rel=1e-3)
    assert_same(ours, theirs, atol=1e-4)


def test_no_two_clients_that_see_samples_differently_go_together(monkeypatch):
    plain = private(sizes=(8, 8, 8))
    works = [*seen(plain[:1]), plain[1], *seen(plain[2:], augment=CropFlip(padding=1))]
    sizes = []
    monkeypatch.setattr("fedfuse.train.batched.pad", lambda w: sizes.append(len(w)) or pad(w))
    ours, theirs = twins(cnn2, OPTIMIZERS["sgd"])
    expected = LoopTrainer().fit(theirs, works)
    assert BatchedTrainer().fit(ours, works) == pytest.approx(expected, rel=1e-3)
    assert_same(ours, theirs)
    assert sizes == [1, 1, 1]
    with pytest.raises(ValueError, match="see samples the same way"):
        padded.pad(works)
    packed, alone = twins(cnn2, OPTIMIZERS["sgd"])
    own = BatchedTrainer()
    calls = [Fit(run, "net", own, [packed[run]], [works[run]]) for run in range(3)]
    assert [o.value[0] for o in Joint()(calls)] == pytest.approx(expected, rel=1e-3)
    LoopTrainer().fit(alone, works)
    assert_same(packed, alone)


class Broken(CropFlip):
    """What breaks a promise."""

    def __init__(self, how: str) -> None:
        super().__init__()
        object.__setattr__(self, "how", how)

    def draw(self, num, generator):
        drawn = CropFlip.draw(self, num, generator)
        return drawn[:-1] if self.how == "few" else drawn

    def __call__(self, inputs, draws, empty):
        if self.how == "writes":
            inputs += 1
        made = CropFlip.__call__(self, inputs, draws, empty)
        return {"small": made[..., 1:], "nan": made / 0 * 0}.get(self.how, made)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("few", "did not draw a row for each sample"),
        ("small", "did not return samples of the kind.*got .*allowed: finite"),
        ("nan", "did not return samples of the kind.*got NaN"),
        ("writes", "changed the samples that it was given"),
    ],
)
def test_what_ones_own_may_not_do(how, told):
    with pytest.raises(PartError, match=told):
        check_views(Broken(how), torch.randn(3, 1, 6, 6))
    check_views(copy.copy(CropFlip()), torch.randn(3, 1, 6, 6))
