"""FedGen's clients: what generated features add to a step on private data."""

import math

import pytest
import torch
from torch import nn

import fedfuse
from clients.exchange import LatentFeatures
from clients.exchange.latent_features import WithGenerated
from fedfuse.testing import check_exchange

RUN = ["method=fedgen", "baseline=none", "warmup_rounds=0", "num_rounds=2", "num_clients=3"]
RUN += ["dataset=synthetic", "dataset.image_size=12", "dataset.num_train=300", "public.size=40"]
ONE_SIZE = ["model=cycle", "model.factories.mlp.hidden=84", "model.factories.cnn2.hidden=84"]


def test_by_hand_one_feature_teaches_the_sample_and_the_other_the_last_layer():
    head = nn.Linear(1, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [0.0]]))
        head.bias.zero_()
    logits = torch.zeros(1, 2, requires_grad=True)
    # Label 0; z = log 3, of which the layer says (3/4, 1/4); z' = 0, with label 1.
    targets = torch.tensor([[0.0, math.log(3), 0.0, 1.0]])
    loss = WithGenerated(head, 2.0, 4.0)(logits, targets)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert loss.item() == pytest.approx(3 * math.log(2) + 4 * kl)
    loss.sum().backward()
    assert logits.grad[0].tolist() == pytest.approx([-0.5 + 4 * -0.25, 0.5 + 4 * 0.25])
    assert head.bias.grad.tolist() == pytest.approx([1.0, -1.0]), "by z' alone: 2 (1/2, 1/2 - 1)"


def test_targets_of_a_loss_that_knows_more_stay_whole():
    def known(logits, targets):
        assert targets.tolist() == [[1.0, 7.0, 8.0]]
        return torch.zeros(1)

    targets = torch.tensor([[1.0, 7.0, 8.0, 0.0, 0.0, 1.0]])
    assert WithGenerated(nn.Linear(1, 2), 0.0, 0.0, known)(torch.zeros(1, 2), targets) == 0


def test_what_it_promises_it_keeps():
    check_exchange(LatentFeatures(server_steps=2, hidden=8, noise=4))


@pytest.mark.parametrize("words", [ONE_SIZE, ["model=mlp", "local_loss=balanced_softmax"]])
def test_it_runs_with_architectures_of_one_feature_size_and_with_priors(words):
    run = fedfuse.simulate(*RUN, *words)
    steps = run.metrics.query("metric == 'server_steps'").value
    assert list(steps) == [50.0, 50.0]
