"""What the server sends back where clients exchange class vectors or models, worked out by hand."""

import pytest
import torch
from torch import nn

from fedfuse.errors import KnowledgeError
from fedfuse.exchange import models
from fedfuse.exchange.class_logits import LeaveOneOut
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.exchange.prototypes import MeanPrototypes
from fedfuse.fusion.weights import self_weight
from fedfuse.layout import Layout


def test_leave_one_out_by_hand():
    # Class 0: clients 0, 1 and 2 own it; class 1: client 0 alone.
    values = torch.tensor(
        [[[2.0, 0.0], [0.0, 8.0]], [[4.0, 2.0], [0.0, 0.0]], [[9.0, 1.0], [0.0, 0.0]]]
    )
    present = torch.tensor([[True, True], [True, False], [True, False]])
    sent = ClassKnowledge(torch.tensor([0, 1, 2]), values, present)
    fusion = LeaveOneOut()(sent, 1)
    assert fusion.weights is None  # the shares differ by class
    down = fusion.teachers
    assert down.values[:, 0].tolist() == [[6.5, 1.5], [5.5, 0.5], [3.0, 1.0]]
    assert down.values[:, 1].tolist() == [[0.0, 0.0], [0.0, 8.0], [0.0, 8.0]]
    assert down.present.tolist() == [[True, False], [True, True], [True, True]]


@pytest.mark.parametrize(("by_count", "mean"), [(False, 2.5), (True, 3.0)])
def test_prototypes_are_averaged_over_the_owners(by_count, mean):
    sent = ClassKnowledge(
        client_ids=torch.tensor([0, 1, 2]),
        values=torch.tensor([[[1.0]], [[4.0]], [[0.0]]]),
        present=torch.tensor([[True], [True], [False]]),
        num_examples=torch.tensor([[1], [2], [0]]),
    )
    down = MeanPrototypes(by_count)(sent, 1).teachers
    assert down.values.flatten().tolist() == [mean] * 3
    assert down.present.all()
    assert down.num_examples is None  # nobody learns how many samples others have


def linear(value):
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, value)
    nn.init.constant_(model.bias, 10 * value)
    return model


def averages(by_samples=True):
    small, large = Layout.of(linear(0)), Layout.of(nn.Linear(2, 1))
    return AverageModels(("s", "l", "s", "s"), {"s": small, "l": large}, by_samples), small


def test_models_are_averaged_by_samples_within_their_architecture():
    combine, small = averages()
    other = torch.tensor([1.0, 2.0, 3.0])
    bank = ModelBank.of(
        [0, 1, 2], [30, 99, 10], [small.flatten(linear(1)), other, small.flatten(linear(5))]
    )
    fusion = combine(bank, 1)
    down = dict(zip(fusion.teachers.client_ids.tolist(), fusion.teachers.vectors(), strict=True))
    assert down[0].tolist() == down[2].tolist() == [2.0, 20.0]  # (30 * 1 + 10 * 5) / 40
    assert down[1].tolist() == other.tolist()
    # Client 3 was not there; it gets the average all the same, and nobody hears of it.
    assert down[3].tolist() == [2.0, 20.0]
    assert fusion.weights.tolist() == [
        [0.75, 0, 0.25, 0],
        [0, 1, 0, 0],
        [0.75, 0, 0.25, 0],
        [0.75, 0, 0.25, 0],
    ]


def test_an_average_is_held_once_and_shares_of_very_many_are_sparse(monkeypatch):
    combine, small = averages()
    sent = [small.flatten(linear(1)), torch.tensor([1.0, 2.0, 3.0]), small.flatten(linear(5))]
    bank = ModelBank.of([0, 1, 2], [30, 99, 10], sent)
    dense = combine(bank, 1)
    assert len(dense.teachers.values) == small.size + 3  # of two architectures, whoever gets them
    monkeypatch.setattr(models, "DENSE_BYTES", 4 * 4**2 - 1)
    sparse = combine(bank, 1).weights
    assert sparse.is_sparse
    assert torch.equal(sparse.to_dense(), dense.weights)
    assert torch.equal(self_weight(sparse), self_weight(dense.weights))
    one = AverageModels(("s",) * 4, {"s": small})
    sparse = one(ModelBank.of([1, 3], [1, 3], sent[::2]), 1).weights
    assert sparse.to_dense().tolist() == [[0, 0.25, 0, 0.75]] * 4


def test_equal_weights_ignore_the_samples():
    combine, small = averages(by_samples=False)
    bank = ModelBank.of([0, 2], [30, 10], [small.flatten(linear(v)) for v in (1, 5)])
    assert combine(bank, 1).teachers.vectors()[0].tolist() == [3.0, 30.0]


def test_models_without_any_weight_are_refused():
    combine, small = averages()
    with pytest.raises(KnowledgeError, match="round 7"):
        combine(ModelBank.of([0], [0], [small.flatten(linear(1))]), 7)


def test_a_layout_carries_a_model_there_and_back():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    net = net.to(memory_format=torch.channels_last)
    net(torch.randn(5, 3, 8, 8))  # moves the running statistics
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    layout = Layout.of(net)
    layout.load(other, layout.flatten(net))
    for (name, a), b in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert int(other[1].num_batches_tracked) == 1


def test_buffers_stay_where_they_are_if_they_do_not_travel():
    a, b = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(a.weight, 3)
    a(torch.randn(4, 2))
    layout = Layout.of(a, buffers=False)
    layout.load(b, layout.flatten(a))
    assert b.weight.tolist() == [3, 3]
    assert b.running_mean.tolist() == [0, 0]
