"""Objects of a process have the same name for the same content, and another for another."""

from __future__ import annotations

import functools
import importlib

import numpy as np
import pytest
import torch

from experiments.config import process_objects
from experiments.config.instantiate import instantiate
from experiments.config.process_objects import Objects
from fedfuse.errors import ConfigError


def named(value: object) -> str:
    return Objects().add(lambda: value, "part", content=value)


def adder(amount):
    return lambda x: x + amount


class Part:
    def __init__(self, size):
        self.size = size


def test_what_an_object_says_is_its_name():
    linear = torch.nn.Linear(2, 2)
    other = torch.nn.Linear(2, 2)
    for same, differs in (
        (lambda: np.arange(3), np.arange(4)),
        (lambda: np.arange(3, dtype=np.int64), np.arange(3, dtype=np.int32)),
        (lambda: torch.arange(3), torch.arange(1, 4)),
        (lambda: adder(1), adder(2)),
        (lambda: functools.partial(adder, 1), functools.partial(adder, 2)),
        (lambda: Part(1), Part(2)),
        (lambda: {"a": [1, {2}]}, {"a": [1, {3}]}),
        (lambda: linear, other),
        (lambda: Part, str),
    ):
        assert named(same()) == named(same())
        assert named(same()) != named(differs)
    circle = Part(None)
    circle.size = circle
    assert named(circle) == named(circle)


def test_they_are_there_while_their_block_runs():
    objects = Objects()
    target = objects.add(lambda labels: 7, "<lambda>")
    assert target.endswith(".lambda")
    with objects:
        assert instantiate({"_target_": target}, "partitioner")(None) == 7
    with pytest.raises(ConfigError, match="does not have it"):
        instantiate({"_target_": target}, "partitioner")
    with pytest.raises(AttributeError):
        _ = importlib.import_module(process_objects.__name__).nothing
