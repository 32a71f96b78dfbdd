"""Recorded steps: the same results through buffers of their own, over rounds; and giving up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedfuse.distill import KL
from fedfuse.models.lenet import lenet5
from fedfuse.train import batched
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.facts import Facts, Widened, widen
from fedfuse.train.replay import WARM, GraphWarning, Replay, record_on
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work, schedule

SHAPE, CLASSES, SIZES = (1, 12, 12), 4, (40, 40, 22)


def dropping(shape, classes):
    width = shape[1] * shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(width, 16), nn.Dropout(0.5), nn.Linear(16, classes)
    )


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class Listed:
    weights: list

    def __call__(self, logits, targets, facts):
        return self.weights[0] * KL()(logits, targets) * (facts.labels >= 0)


def students(make_model):
    made = []
    for client in range(len(SIZES)):
        torch.manual_seed(client)
        model = make_model(SHAPE, CLASSES)
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        made.append(Student(client, "net", model, adam))
    return made


def works(round_, *, taught):
    made = []
    for client, size in enumerate(SIZES):
        rng = torch.Generator().manual_seed(10 * round_ + client)
        x, y = torch.randn(size, *SHAPE, generator=rng), torch.arange(size) % CLASSES
        own = Work(x, y, cross_entropy, schedule(size, 4, -(-size // 4), rng), entropy=round_)
        if taught:
            public = torch.randn(30, *SHAPE, generator=torch.Generator().manual_seed(1))
            teacher = torch.randn(30, CLASSES, generator=rng).softmax(1)
            order = schedule(30, 4, 7, rng)
            anchor = Work(x, y, cross_entropy, schedule(size, 4, 7, rng))
            own = Work(public, teacher, KL(), order, None, anchor, 0.5, entropy=round_)
        made.append(own)
    return made


def trained(make_model, trainer):
    ours, losses = students(make_model), []
    for round_ in range(3):
        losses += trainer.fit(ours, works(round_, taught=False))
        trainer.predict(ours, torch.randn(5, *SHAPE), 4)  # leaves the models in evaluation mode
        losses += trainer.fit(ours, works(round_, taught=True))
    return losses, [p.detach() for student in ours for p in student.model.parameters()]


@pytest.mark.parametrize("make_model", [lenet5, dropping])
def test_replayed_steps_are_bitwise_the_steps(make_model, monkeypatch):
    expected = trained(make_model, BatchedTrainer(graphs=False))
    recorded = []

    def record(function):
        recorded.append(function)
        return function

    monkeypatch.setattr(batched, "record_on", lambda _: record)
    losses, parameters = trained(make_model, BatchedTrainer())
    assert losses == expected[0]
    assert all(torch.equal(a, b) for a, b in zip(parameters, expected[1], strict=True))
    # Once each for all rounds: local steps of three clients and of two, distillation of three.
    assert len(recorded) == 3


def test_a_loss_that_cannot_be_hashed_is_recorded_all_the_same(monkeypatch):
    """As it is with a loss that wants facts and holds a list, say."""
    unhashable = Widened(Listed([1.0]), frozenset({"labels"}))
    with pytest.raises(TypeError):
        hash(unhashable)
    recorded = []
    monkeypatch.setattr(batched, "record_on", lambda _: lambda f: recorded.append(f) or f)
    trainer, ours = BatchedTrainer(), students(lenet5)
    for round_ in range(2):
        lessons = [
            replace(w, targets=widen(w.targets, Facts(labels=w.targets.argmax(1))), loss=unhashable)
            for w in works(round_, taught=True)
        ]
        trainer.fit(ours, lessons)
    assert len(recorded) == 1


def test_what_cannot_be_recorded_is_said_once_and_done_all_the_same(monkeypatch):
    expected = trained(lenet5, BatchedTrainer(graphs=False))

    def record(_):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(batched, "record_on", lambda _: record)
    with pytest.warns(GraphWarning, match="permitted when stream is capturing") as told:
        losses, _ = trained(lenet5, BatchedTrainer())
    assert len({str(warning.message) for warning in told}) == 1
    assert losses == expected[0]


def test_a_shape_that_comes_seldom_is_not_recorded():
    calls = []
    replay = Replay(lambda batch: batch[0].sum(1), lambda function: calls.append(1) or function)
    for _ in range(3):
        replay.begin()
        for _ in range(WARM):
            assert replay((torch.ones(2, 3), None)).tolist() == [3, 3]
    assert not calls
    assert replay((torch.ones(2, 3), None)).tolist() == [3, 3]
    assert calls == [1]
    assert replay((2 * torch.ones(2, 3), None)).tolist() == [6, 6]


def test_only_cuda_records():
    assert record_on(torch.device("cpu")) is None
