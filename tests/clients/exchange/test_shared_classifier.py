"""A last layer for all: by hand, its own is twice the loss, on every trainer, one architecture."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from clients.exchange import SharedClassifier
from fedfuse.distill import KL
from fedfuse.errors import ModelError, ParameterError
from fedfuse.exchange.beside import MeanHeads
from fedfuse.models.features import WithFeatures
from fedfuse.models.heads import head_rows
from fedfuse.models.mlp import mlp
from fedfuse.models.readings import WithReadings
from fedfuse.testing import check_exchange
from fedfuse.train.sides import OnReadings
from fedfuse.types import Fusion, KnowledgeBank, Space, Teachers

RUN = ["models=save", "baseline=none", "checkpoint.every=0", "warmup_rounds=0", "num_rounds=2"]
RUN += ["dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50"]
SHARED = ["method=shared_classifier", *RUN]


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def read(model: nn.Module, head: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    sides = WithFeatures(model, 3)
    return WithReadings(sides, 3, head[:, :-1], head[:, -1])(inputs)


def test_I6_its_own_head_is_twice_the_loss() -> None:
    torch.manual_seed(0)
    model, inputs = mlp((4,), 3, hidden=5, depth=1), torch.randn(6, 4)
    targets = torch.randn(6, 3).softmax(dim=1)
    once = KL()(model(inputs), targets)
    got = OnReadings(KL(), 3, 1.0)(read(model, head_rows(model), inputs), targets)
    torch.testing.assert_close(got, 2 * once, atol=1e-6, rtol=1e-5)


def test_I6_another_head_reads_the_same_features_and_is_not_moved() -> None:
    torch.manual_seed(0)
    model, inputs = mlp((4,), 3, hidden=5, depth=1), torch.randn(6, 4)
    head, targets = torch.randn(3, 6), torch.full((6, 3), 1 / 3)
    features = WithFeatures(model, 3)(inputs)[:, 3:]
    expected = features @ head[:, :5].T + head[:, 5]
    sides = read(model, head, inputs)
    torch.testing.assert_close(sides[:, 3:], expected, atol=1e-5, rtol=1e-5)
    only = OnReadings(KL(), 3, 0.5)(sides, targets) - KL()(sides[:, :3], targets)
    torch.testing.assert_close(only, 0.5 * KL()(expected, targets), atol=1e-5, rtol=1e-4)
    names = WithReadings(WithFeatures(model, 3), 3, head[:, :-1]).state_dict().keys()
    assert all(name.startswith("sides.model.") for name in names), "it is no part of the state"
    before = head.clone()
    OnReadings(KL(), 3, 1.0)(sides, targets).sum().backward()
    assert torch.equal(head, before)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_I6_the_server_takes_the_mean_of_the_layers() -> None:
    heads = torch.stack([torch.full((2, 3), value) for value in (1.0, 2.0, 6.0)])
    ids, logits = torch.arange(3), torch.zeros(3, 4, 2)
    bank = KnowledgeBank(ids, logits, torch.tensor([1, 2, 3]), prototypes=heads)
    fusion = MeanHeads()(bank, Fusion(Teachers(ids, logits, Space.LOGITS), None), 1)
    assert isinstance(fusion.teachers, Teachers)
    assert torch.equal(fusion.teachers.prototypes, torch.full((3, 2, 3), 3.0))


def test_I6_a_layer_without_a_bias_travels_with_zeros() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    assert torch.equal(head_rows(model)[:, -1], torch.zeros(2))


def test_I6_keeps_every_promise_of_an_exchange() -> None:
    check_exchange(SharedClassifier())


def test_I6_without_a_weight_it_is_the_plain_mean(simulate) -> None:
    plain, nothing = simulate("method=mean", *RUN), simulate(*SHARED, "exchange.weight=0")
    assert torch.equal(weights(plain), weights(nothing))


def test_I6_one_after_the_other_and_all_at_once_agree(simulate) -> None:
    words = [*SHARED, "partitioner=dirichlet", "partitioner.alpha=0.3", "distill=ofa"]
    loop, batched = (simulate(*words, f"trainer={trainer}") for trainer in ("loop", "batched"))
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)
    nothing = simulate(*words, "exchange.weight=0")
    assert float((weights(loop) - weights(nothing)).abs().max()) > 1e-4


def test_I6_several_architectures_are_refused_before_training(simulate) -> None:
    with pytest.raises(ModelError, match="features of one architecture"):
        simulate(*SHARED, "model=cycle")


@pytest.mark.parametrize("wrong", [{"weight": -1}, {"weight": math.nan}, {"width": 3}])
def test_I6_refuses(wrong) -> None:
    with pytest.raises(ParameterError, match="parameter of SharedClassifier"):
        SharedClassifier(**wrong)
