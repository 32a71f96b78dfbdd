"""FedGH's server by hand: one step of a header on class means."""

from functools import partial

import pytest
import torch
from torch import nn

from fedfuse.errors import FedfuseError
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.heads import TrainedHeader
from fedfuse.exchange.kept_model import KeptModel
from fedfuse.rng import Streams


def zeros() -> nn.Linear:
    layer = nn.Linear(1, 2)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def trained(make=zeros, lr=0.5) -> TrainedHeader:
    return TrainedHeader(KeptModel("header", make, Streams(0)), 1, 10, lr)


def sent(*, scale=1.0) -> ClassKnowledge:
    # Client 0 owns class 0 with a mean of 2, client 1 class 1 with 4; the 9 says nothing.
    values = torch.tensor([[[2.0], [9.0]], [[0.0], [4.0]]]) * scale
    present = torch.tensor([[True, False], [False, True]])
    return ClassKnowledge(torch.tensor([0, 3]), values, present)


def test_one_step_on_all_class_means_with_their_classes_as_labels():
    # All probabilities 1/2: row 0 has slope ((1/2 - 1) 2 + 1/2 4) / 2 = 1/2, and its bias 0.
    fusion = trained()(sent(), 1)
    assert fusion.teachers.client_ids.tolist() == [0, 3]
    assert fusion.teachers.heads.tolist() == [[[-0.25, 0.0], [0.25, 0.0]]] * 2
    assert fusion.metrics == {"server_steps": 1.0}


def test_the_header_goes_on_from_round_to_round_and_after_a_resume():
    whole, broken = (trained(partial(nn.Linear, 1, 2)) for _ in range(2))
    begun = broken.header.state()
    first = whole(sent(), 1)
    broken(sent(), 1)
    second = whole(sent(), 2)
    assert not torch.equal(first.teachers.heads, second.teachers.heads)
    resumed = trained(partial(nn.Linear, 1, 2))
    assert resumed.header.state().keys() == begun.keys()
    resumed.header.restore(broken.header.state())
    assert torch.equal(resumed(sent(), 2).teachers.heads, second.teachers.heads)


def test_a_client_that_owns_nothing_leaves_the_header_as_it_is():
    nobody = ClassKnowledge(torch.tensor([0]), torch.zeros(1, 2, 1), torch.zeros(1, 2).bool())
    assert not trained()(nobody, 1).teachers.heads.any()


def test_a_header_that_diverges_is_told_of():
    with pytest.raises(FedfuseError, match=r"server's header diverged in round 2.*learning rate"):
        trained(lr=1e38)(sent(scale=1e30), 2)
