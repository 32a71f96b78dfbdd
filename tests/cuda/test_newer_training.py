"""On the GPU against one by one there and on the CPU: rates, clipping, crops, texts, depthwise."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedfuse.distill import KL
from fedfuse.local_loss import cross_entropy
from fedfuse.models.cnn import cnn2
from fedfuse.models.mlp import mlp
from fedfuse.models.mobilenet import InvertedResidual, mobilenet_v2
from fedfuse.models.ngrams import ngrams
from fedfuse.models.random_features import RandomFeatures
from fedfuse.models.text_transformer import text_transformer
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.learning_rate import Cosine, Rates, Step
from fedfuse.train.patches import Patches
from fedfuse.train.replay import GraphWarning
from fedfuse.train.trainer import LoopTrainer
from fedfuse.train.views import CropFlip, Views
from fedfuse.train.work import Work, schedule
from tests.cuda.test_trainers import (
    CLASSES,
    OPTIMIZERS,
    SHAPE,
    assert_same,
    exactly,
    private,
    students,
    taught,
)

pytestmark = pytest.mark.cuda

CPU = torch.device("cpu")
WORDS = 12
MANY = (40, 40, 24)
"""Enough steps of one shape to be recorded and replayed."""


def rated(works, begin=0.0):
    """Give each client rates of its own, which change with each step."""
    rates = [Rates(Cosine(warmup=0.5, per="step"), 3), Rates(Step(per="step"), 3)]
    return [rates[i % 2].over(work, begin, begin + 1) for i, work in enumerate(works)]


def cropped(works, seed=0):
    """Let each client's steps see crops and mirror images."""
    made = []
    for client_id, work in enumerate(works):
        drawn = torch.Generator().manual_seed(1000 * seed + client_id)
        augment = CropFlip(padding=3)
        draws = augment.draw(len(work.schedule.order), drawn)
        made.append(replace(work, views=Views(augment, draws, (-0.5,))))
    return made


def texts(device, round_=0):
    """Return steps over texts of several lengths, one of them empty."""
    works = []
    for client_id, size in enumerate(MANY):
        draw = torch.Generator().manual_seed(client_id)
        words = torch.randint(1, 200, (size, WORDS), generator=draw)
        lengths = torch.randint(0, WORDS + 1, (size, 1), generator=draw)
        words[torch.arange(WORDS) >= lengths] = 0
        labels = torch.randint(0, CLASSES, (size,), generator=draw)
        order = torch.Generator().manual_seed(1000 * round_ + client_id)
        steps = schedule(size, 4, -(-size // 4), order)
        works.append(Work(words.float().to(device), labels.to(device), cross_entropy, steps))
    return works


def compare(make_model, optimizer, phases, device, clip_norm=None, double=False):
    """Train in one batch (recorded), one by one, and one by one on the CPU; all are the same."""
    if double:
        phases = [lambda place, phase=phase: exactly(phase(place)) for phase in phases]
    batch, loop = BatchedTrainer(clip_norm=clip_norm), LoopTrainer(clip_norm=clip_norm)
    found = []
    for trainer, place in ((batch, device), (loop, device), (loop, CPU)):
        own = students(make_model, OPTIMIZERS[optimizer], place)
        for student in own:
            student.model.double() if double else None
        with warnings.catch_warnings():
            warnings.simplefilter("error", GraphWarning)
            losses = [trainer.fit(own, phase(place)) for phase in phases]
        found.append((own, losses))
    (ours, said), (theirs, expected), (plain, _) = found
    for mine, other in zip(said, expected, strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert_same(ours, theirs)
    assert_same(theirs, plain, atol=1e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_rates_and_clipping_in_recorded_steps(optimizer, clip_norm, device):
    phases = [
        lambda place, r=r: rated(private(place, round_=r, sizes=MANY), float(r)) for r in range(2)
    ]
    compare(mlp, optimizer, phases, device, clip_norm)


def test_crops_and_mirror_images(device):
    many = partial(private, sizes=MANY)
    phases = [
        lambda place, r=r: cropped(rated(many(place, round_=r), float(r)), r) for r in range(2)
    ]
    compare(cnn2, "momentum", [*phases, partial(taught, KL())], device)


def test_depthwise_convolutions(device):
    def make(shape, num_classes):
        blocks = [InvertedResidual(1, 4, 6, 2, "group"), InvertedResidual(4, 4, 6, 1, "group")]
        return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4 * 36, num_classes))

    compare(make, "momentum", [private, partial(taught, KL())], device, double=True)


def test_mobilenet_predicts_in_one_batch(device):
    own = students(partial(mobilenet_v2, width=0.1), OPTIMIZERS["sgd"], device)
    shared = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1)).to(device)
    found, expected = (
        trainer.predict(own, shared, 4) for trainer in (BatchedTrainer(), LoopTrainer())
    )
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("make", [ngrams, text_transformer])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_texts_in_recorded_steps(make, optimizer, device):
    def of_texts(_, num_classes):
        return make((WORDS,), num_classes, width=8, buckets=64)

    phases = [partial(texts, round_=r) for r in range(2)]
    compare(of_texts, optimizer, phases, device)


def test_layers_are_left_to_torch_where_patches_cost_more(device):
    draw = torch.Generator().manual_seed(0)
    for inputs, outputs, size in ((1, 6, 28), (6, 16, 14), (32, 64, 16)):
        image = torch.randn(8, inputs, size, size, generator=draw).to(device)
        weight = torch.randn(outputs, inputs, 3, 3, generator=draw).to(device)
        with Patches(always=False):
            found = F.conv2d(image, weight, stride=2, padding=1)
        expected = F.conv2d(image, weight, stride=2, padding=1)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_frozen_features(device):
    torch.manual_seed(0)
    made = RandomFeatures(SHAPE)
    images = torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(1))
    here = made(images).detach()
    there = made.to(device)(images.to(device)).detach()
    torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=1e-4)
