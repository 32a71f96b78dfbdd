"""FedGH's clients: the header takes their last layer's place, whatever lies before it."""

from functools import partial
from math import prod

import pytest
import torch
from torch import nn

import fedfuse
from clients.exchange import GlobalHeader
from clients.exchange.global_header import take_head
from fedfuse.errors import ParameterError
from fedfuse.models.heads import head_rows
from fedfuse.models.mlp import mlp
from fedfuse.testing import CheckFailed, check_exchange
from fedfuse.train.trainer import Student

RUN = ["method=fedgh", "baseline=none", "warmup_rounds=0", "num_rounds=2", "num_clients=3"]
RUN += [
    "dataset=synthetic",
    "dataset.image_size=12",
    "dataset.num_train=300",
    "public.size=40",
    "models=save",
]
ONE_SIZE = ["model=cycle", "model.factories.mlp.hidden=84", "model.factories.cnn2.hidden=84"]


def bare(input_shape, num_classes) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(input_shape), num_classes, bias=False))


def test_the_header_comes_in_and_the_moments_of_the_layer_before_it_go():
    model = mlp((4,), 3, hidden=5, depth=1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    others = {name: value.clone() for name, value in model.state_dict().items()}
    head = torch.arange(18.0).reshape(3, 6)
    take_head(Student(0, "mlp", model, optimizer), head)
    assert torch.equal(head_rows(model), head)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    kept = {id(parameter) for parameter in layers[0].parameters()}
    assert {id(parameter) for parameter in optimizer.state} == kept
    assert torch.equal(layers[0].weight, next(v for v in others.values() if v.shape == (5, 4)))


def test_what_it_promises_it_keeps():
    check_exchange(GlobalHeader(server_epochs=2))


def test_architectures_of_one_feature_size_share_a_header():
    run = fedfuse.simulate(*RUN, *ONE_SIZE)
    sizes = [sum(p.numel() for p in run.model(client).parameters()) for client in range(3)]
    assert len(set(sizes)) == 3
    steps = run.metrics.query("metric == 'server_steps'").value
    assert list(steps) == [300.0, 300.0], "30 class means at most, in batches of 10"


def test_a_last_layer_without_bias_is_refused():
    with pytest.raises(CheckFailed, match=r"has a bias: got none in 'bare'.*bias=True"):
        check_exchange(GlobalHeader(), bare)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (partial(GlobalHeader, server_epochs=0), "server_epochs"),
        (partial(GlobalHeader, server_batch_size=0), "server_batch_size"),
        (partial(GlobalHeader, server_learning_rate=0), "server_learning_rate"),
    ],
)
def test_settings_that_make_no_sense(wrong, says):
    with pytest.raises(ParameterError, match=says):
        wrong()
