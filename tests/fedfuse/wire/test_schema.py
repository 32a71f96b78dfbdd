"""Class vectors and models survive the way, and what is broken is refused with the client."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from fedfuse.errors import KnowledgeError
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.models import ModelBank, SharedModels
from fedfuse.wire.encode import decode, encode
from fedfuse.wire.schema import Expectation

IDS, C, D = (1, 4), 3, 5
CLASSES = Expectation(IDS, 7, C, {"D": D})
MODELS = Expectation(IDS, 7, C, {"N": (4, 2)})


def classes(*, counted=True):
    g = torch.Generator().manual_seed(0)
    return ClassKnowledge(
        torch.tensor(IDS),
        torch.randn(2, C, D, generator=g),
        torch.tensor([[True, False, True], [True, True, True]]),
        torch.tensor([[3, 0, 1], [2, 2, 2]]) if counted else None,
    )


def models():
    return ModelBank.of(IDS, [10, 20], [torch.arange(4.0), torch.tensor([7.0, 8.0])])


def shared():
    a, b = torch.arange(3.0), torch.tensor([7.0])
    return SharedModels.of([1, 4, 6], [0, 0, 0], [a, b, a])


SHARED = Expectation((1, 4, 6), 7, C, {"N": (3, 1, 3)})


@pytest.mark.parametrize(
    ("sent", "expect"),
    [
        (classes(), CLASSES),
        (classes(counted=False), CLASSES),
        (models(), MODELS),
        (shared(), SHARED),
    ],
)
def test_what_is_sent_arrives(sent, expect):
    got = decode(type(sent), encode(sent), expect)
    for field in fields(sent):
        left, right = getattr(sent, field.name), getattr(got, field.name)
        assert (left is None and right is None) or torch.equal(left, right), field.name


def test_a_model_of_several_clients_travels_once_and_counts_for_each():
    arrays = encode(shared())
    assert len(arrays["values"]) == 3 + 1
    got = decode(SharedModels, arrays, SHARED)
    assert [vector.tolist() for vector in got.vectors()] == [[0, 1, 2], [7], [0, 1, 2]]
    assert SharedModels.exchanged_bytes(encode(got)) == 4 * (3 + 1 + 3) + 3 * 8
    last = got.rows(slice(2, 3))
    assert (last.client_ids.tolist(), last.values.tolist()) == ([6], [0, 1, 2])


@pytest.mark.parametrize(
    "change",
    [
        {"like": np.array([0, 1, 9])},
        {"like": np.array([2, 1, 0])},
        {"like": np.array([0, 1, -1])},
        {"like": np.array([0, 0, 0])},
        {"sizes": np.array([3, 1, 3])},
        {"values": np.zeros(3, np.float32)},
    ],
    ids=str,
)
def test_a_model_that_is_not_there_is_refused(change):
    with pytest.raises(KnowledgeError):
        decode(SharedModels, {**encode(shared()), **change}, SHARED).vectors()


def test_models_of_several_nodes_are_sorted_and_split_again():
    back = ModelBank.stack([models().rows(torch.tensor([1])), models().rows(torch.tensor([0]))])
    assert back.client_ids.tolist() == list(IDS)
    assert [v.tolist() for v in back.vectors()] == [[0, 1, 2, 3], [7, 8]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"values": np.zeros((2, C, 9), np.float32)},
            "numbers per class or sample: got 9, allowed: 5",
        ),
        ({"values": np.full((2, C, D), np.nan, np.float32)}, "client 1 holds impossible values"),
        ({"present": np.zeros((2, 4), bool)}, "wrong number of classes"),
        ({"num_examples": np.full((2, C), -1)}, "negative"),
    ],
)
def test_broken_class_vectors_are_refused(change, says):
    with pytest.raises(KnowledgeError, match=says):
        decode(ClassKnowledge, {**encode(classes()), **change}, CLASSES)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sizes": np.array([3, 3])}, "other lengths than were asked for"),
        ({"values": np.zeros(5, np.float32)}, "other lengths than were asked for"),
        ({"sizes": np.array([-1, 7])}, "negative"),
        ({"values": np.array([0, 0, 0, 0, 0, np.inf], np.float32)}, "client 4 holds impossible"),
    ],
)
def test_broken_models_are_refused(change, says):
    with pytest.raises(KnowledgeError, match=says):
        decode(ModelBank, {**encode(models()), **change}, MODELS)


def test_the_model_of_another_architecture_is_refused():
    with pytest.raises(KnowledgeError, match="other lengths"):
        decode(ModelBank, encode(models()), Expectation(IDS, 7, C, {"N": (4, 4)}))
