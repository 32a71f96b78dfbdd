"""Anything a ``_target_`` can name becomes a factory, or one clear message."""

import pickle
from functools import partial

import pytest
import torch
from torch import nn

from fedfuse.errors import ModelError
from fedfuse.models.factory import as_factory, target_name
from fedfuse.models.mlp import mlp

SHAPE = (1, 8, 8)


class Knows(nn.Linear):
    def __init__(self, input_shape, num_classes, scale=1):
        assert isinstance(input_shape, tuple)
        super().__init__(input_shape[-1] * scale, num_classes)


class KnowsClassesOnly(nn.Linear):
    def __init__(self, *, num_classes):
        super().__init__(4, num_classes)


class KnowsNothing(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)


class NeedsMore(nn.Linear):
    def __init__(self, num_classes, width):
        super().__init__(width, num_classes)


def like_torchvision(*, weights=None, **kwargs):
    assert set(kwargs) == {"num_classes"}
    return nn.Linear(2, kwargs["num_classes"])


@pytest.mark.parametrize(
    ("target", "sizes"),
    [
        (Knows, (8, 10)),
        (partial(Knows, scale=2), (16, 10)),
        (KnowsClassesOnly, (4, 10)),
        (KnowsNothing, (4, 3)),
        (partial(NeedsMore, width=5), (5, 10)),
        (partial(NeedsMore, num_classes=7, width=5), (5, 7)),  # what the user wrote wins
        (partial(NeedsMore, 7, width=5), (5, 7)),
        (partial(Knows, (1, 8, 3)), (3, 10)),
        (like_torchvision, (2, 10)),
        (lambda num_classes: nn.Linear(1, num_classes), (1, 10)),
    ],
)
def test_gives_what_the_signature_takes(target, sizes):
    model = as_factory(target)(SHAPE, 10)
    assert (model.in_features, model.out_features) == sizes


def test_every_call_builds_a_new_model():
    factory = as_factory(Knows)
    assert factory(SHAPE, 2) is not factory(SHAPE, 2)


def test_adapting_twice_changes_nothing():
    factory = as_factory(partial(Knows, scale=2))
    assert as_factory(factory) is factory


def test_factories_travel_to_worker_processes():
    factory = pickle.loads(pickle.dumps(as_factory(partial(mlp, hidden=3))))
    assert factory(SHAPE, 2)(torch.zeros(1, *SHAPE)).shape == (1, 2)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (KnowsNothing(), "finished model.*instance of KnowsNothing"),
        (nn.Sequential(), "finished model"),
        ("lenet5", "nn.Module class or a function.*'lenet5'"),
        (None, "nn.Module class or a function"),
        (NeedsMore, "NeedsMore.*missing a required argument: 'width'"),
        (partial(mlp, hiden=3), "mlp.*'hiden'.*allowed: hidden, depth.*mean 'hidden'"),
        (partial(KnowsNothing, zzz=3), "'zzz'.*no parameters"),
    ],
)
def test_says_what_cannot_be_a_model(target, message):
    with pytest.raises(ModelError, match=message):
        as_factory(target)


def test_names():
    assert target_name(Knows) == "Knows"
    assert target_name(as_factory(partial(mlp, hidden=3))) == "mlp"
    assert target_name(KnowsNothing()) == "KnowsNothing"
