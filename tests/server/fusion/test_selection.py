"""FedGEMS by hand: a sample that the server's model gets right, once got right, never got right."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from experiments.assembly.parts import build_parts
from experiments.assembly.server import build_student
from experiments.config import compose
from fedfuse.models.assign import Same
from fedfuse.models.mlp import mlp
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds
from fedfuse.types import Space, Teachers
from server.fusion import student as module
from server.fusion.selection import RightAnswers, selected

LABELS = torch.tensor([0, 0, 1])


def test_what_is_learned_of_three_samples_in_two_rounds():
    fused = torch.tensor([[0.2, 0.8], [0.3, 0.7], [0.9, 0.1]])
    memory, index = RightAnswers(5, 2), torch.tensor([4, 0, 2])
    own = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])  # only the first is right
    right, before = memory.note(index, own, LABELS)
    assert right.tolist() == [True, False, False]
    assert not before.any()
    made = selected(fused, memory.of(index, 2.0), LABELS, right, before)
    assert made.tolist() == [[1.0, 0.0], *fused[1:].tolist()]
    # Now the first is wrong, and what it said is remembered; the last is right.
    right, before = memory.note(index, own.flip(1), LABELS)
    assert (right.tolist(), before.tolist()) == ([False, True, True], [True, False, False])
    made = selected(fused, memory.of(index, 2.0), LABELS, right, before)
    kept = torch.tensor([2.0, 0.0]).div(2).softmax(0)  # at the loss's temperature
    torch.testing.assert_close(made, torch.stack([kept, *torch.eye(2)]))


def test_it_remembers_through_a_checkpoint():
    memory, again, index = RightAnswers(3, 2), RightAnswers(3, 2), torch.tensor([1])
    memory.note(index, torch.tensor([[4.0, 0.0]]), torch.tensor([0]))
    again.restore(memory.state())
    wrong = torch.tensor([[0.0, 9.0]])
    _, before = again.note(index, wrong, torch.tensor([0]))
    assert before.tolist() == [True]
    assert torch.equal(again.of(index, 1.0), torch.tensor([[4.0, 0.0]]).softmax(1))


@pytest.fixture(scope="module")
def parts():
    words = ["method=fedgems", "dataset=synthetic", "dataset.image_size=8", "num_clients=2"]
    words += ["dataset.num_train=200", "public.size=20", "partitioner=iid", "model=mlp"]
    cfg = compose.configure(words, compose.open_hydra())
    OmegaConf.resolve(cfg)
    return build_parts(cfg)


def test_the_servers_model_learns_what_was_selected_whoever_answered(parts, monkeypatch):
    rounds = PublicRounds(All(), parts.data.public, Streams(0))
    learner = build_student(parts, Same(mlp), rounds, torch.device("cpu"))
    labels = torch.from_numpy(parts.data.public.labels)
    own = 5 * torch.nn.functional.one_hot(labels, 10).float()
    own[10:] = own[10:].roll(1, dims=1)  # right of the first ten
    monkeypatch.setattr(module, "predict", lambda *_: own.clone())
    works = []
    monkeypatch.setattr(module, "fit", lambda _, __, work, **_more: works.append(work) or 0.0)
    fused = torch.full((1, 20, 10), 0.1)
    weight = torch.zeros(1, 20)
    weight[:, 15:] = 1  # of the others five were answered
    learner.learn(Teachers(torch.tensor([0]), fused, Space.PROBABILITIES, weight), 1)
    (work,) = works
    assert work.sample_weight.tolist() == [1.0] * 10 + [0.0] * 5 + [1.0] * 5
    told = work.targets[:, :10]
    assert torch.equal(told[:10].argmax(1), labels[:10])
    assert told[:10].max(1).values.tolist() == [1.0] * 10
    torch.testing.assert_close(told[10:], fused[0, 10:])
    assert set(work.schedule.order.tolist()) == {*range(10), *range(15, 20)}
    # With the label's one-hot as the teacher both halves of the loss are its cross-entropy.
    z = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    loss = work.loss(z, work.targets)
    plain = torch.nn.functional.cross_entropy(z, labels, reduction="none")
    torch.testing.assert_close(loss[:10], plain[:10])
    even = z.log_softmax(1).mean(1).neg() + torch.tensor(0.1).log()
    torch.testing.assert_close(loss[10:], 0.75 * plain[10:] + 0.25 * even[10:])
    monkeypatch.undo()
    assert learner.metrics()["server_right"] == 0.5
    assert learner.metrics()["server_remembered"] == 0.0
    assert {name for name in learner.state() if name.startswith("right/")} == {
        "right/logits",
        "right/known",
    }
