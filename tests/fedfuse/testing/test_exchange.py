"""What the author of an exchange is told, one mistake at a time."""

import importlib.util
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch
from torch import Tensor

from clients import exchange as built_in
from clients.exchange import Exchange
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.trained_prototypes import Trained
from fedfuse.models.mlp import mlp
from fedfuse.payload import SIMPLEX, ArrayField, Payload
from fedfuse.testing import CheckFailed, check_exchange
from fedfuse.types import Fusion

EXAMPLE = Path(__file__).parents[3] / "examples" / "my_exchange.py"


def example():
    spec = importlib.util.spec_from_file_location("my_exchange_of_the_test", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its annotations are looked up
    spec.loader.exec_module(module)
    return module


mine = example()


@dataclass(frozen=True, slots=True)
class Moving(built_in.Averaged):
    """Clients go half of the way to each average, and so need every one."""

    def learn(self, held, tools, round_, received):
        kept = [self.layout(student).flatten(student.model) for student in held]
        half = [(a + b) / 2 for a, b in zip(kept, received.vectors(), strict=True)]
        ids, samples = received.client_ids, received.num_examples
        received = type(received).of(ids, samples, half)
        return built_in.Averaged.learn(self, held, tools, round_, received)


def test_who_needs_every_download_must_not_say_that_the_last_suffices():
    with pytest.raises(CheckFailed, match="declares last_suffices"):
        check_exchange(Moving())


def test_the_example_keeps_every_promise():
    check_exchange(mine.SoftLabels())


@pytest.mark.parametrize(
    "exchange",
    [
        built_in.Predictions(),
        built_in.ClassLogits(),
        built_in.Prototypes(by_count=True),
        built_in.Prototypes(trained=Trained(epochs=2)),
        built_in.Prototypes(soft_weight=0.1, noise=0.5),
        built_in.LatentFeatures(server_steps=2, hidden=8),
        built_in.GlobalHeader(server_epochs=2),
        built_in.Averaged(fine_tune_epochs=1),
        built_in.Ditto(),
        built_in.PFedMe(),
        built_in.APFL(),
        built_in.Mutual(partial(mlp, hidden=4, depth=1)),
        built_in.Mutual(partial(mlp, hidden=8, depth=1), weighing="adaptive", low_rank=0.25),
        built_in.Pooled(),
        built_in.GroupKnowledge(model=partial(mlp, hidden=4, depth=1), refine="entropy"),
        built_in.GroupKnowledge(model=partial(mlp, hidden=4, depth=1), layer="1"),
        built_in.KnowledgeCache(neighbours=2),
        built_in.DistilledOnServer(server_steps=5),
    ],
    ids=lambda exchange: type(exchange).__name__,
)
def test_so_do_all_of_ours(exchange):
    check_exchange(exchange)


@dataclass(frozen=True, slots=True)
class Undeclared(Payload):
    probs: Annotated[Tensor, ArrayField("K C C", bounds=SIMPLEX)]
    counts: Tensor


class NotFrozen(Payload):
    probs: Annotated[Tensor, ArrayField("K C C")]


@dataclass(frozen=True, slots=True)
class OfUnknownSize(Payload):
    probs: Annotated[Tensor, ArrayField("K C D")]


@dataclass(frozen=True)
class Declares(mine.SoftLabels):
    upload: type = Undeclared

    def kind(self, models, data):
        return Kind(self.upload, mine.Mixtures)


@dataclass(frozen=True)
class Sends(mine.SoftLabels):
    """Sends what ``change`` makes of the right thing."""

    change: object = None

    def share(self, held, tools, round_):
        return self.change(super().share(held, tools, round_))


@dataclass(frozen=True)
class Combines(mine.SoftLabels):
    change: object = None

    def combine(self, models, data):
        return lambda up, round_: self.change(mine.average(up, round_))


class Plain(Exchange):
    pass


@dataclass(frozen=True)
class Remembers(mine.SoftLabels):
    """Counts rounds in itself."""

    calls: dict = field(default_factory=dict)

    def share(self, held, tools, round_):
        for student in held:
            self.calls[student.client_id] = self.calls.get(student.client_id, 0) + 1
        return super().share(held, tools, round_)


@dataclass(frozen=True)
class Hides(mine.SoftLabels):
    """The same where nobody sees it in its fields, and what it sends depends on it."""

    calls: dict = field(default_factory=dict, repr=False)

    def share(self, held, tools, round_):
        up = super().share(held, tools, round_)
        counts = []
        for student in held:
            self.calls[student.client_id] = self.calls.get(student.client_id, 0) + 1
            counts.append(self.calls[student.client_id] % 3)
        return replace(up, counts=up.counts + torch.tensor(counts)[:, None])


@dataclass(frozen=True)
class Draws(mine.SoftLabels):
    def share(self, held, tools, round_):
        up = super().share(held, tools, round_)
        return replace(up, counts=up.counts + int(np.random.randint(1000)))  # noqa: NPY002


@dataclass(frozen=True)
class Looks(mine.SoftLabels):
    """Sends what depends on who shares its process."""

    def share(self, held, tools, round_):
        up = super().share(held, tools, round_)
        return replace(up, counts=up.counts + len(tools.memory.__self__._states))


def everybody(up):
    rows = torch.zeros(3, dtype=torch.int64)
    return mine.ClassMeans(torch.arange(3), up.probs[rows], up.counts[rows])


WRONG = {
    "undeclared field": (
        Declares(upload=Undeclared),
        "The field 'counts' of payload Undeclared does",
    ),
    "not a frozen dataclass": (
        Declares(upload=NotFrozen),
        r"The payload NotFrozen is not a frozen dataclass. Decorate class NotFrozen",
    ),
    "no payload": (Declares(upload=dict), "dict is no payload"),
    "unknown size": (
        Declares(upload=OfUnknownSize),
        r"Nobody says how large the dimension D of 'probs' .*Kind\(..., sizes=\{\"D\": 8\}\)",
    ),
    "wrong shape": (
        Sends(change=lambda up: replace(up, probs=up.probs[:, :, :2])),
        "is refused: 'probs' has the wrong number of classes: got 2, allowed: 4",
    ),
    "wrong dtype": (
        Sends(change=lambda up: replace(up, probs=up.probs.double())),
        "is refused: 'probs' has the wrong type: got torch.float64, allowed: float32",
    ),
    "out of bounds": (
        Sends(change=lambda up: replace(up, counts=-up.counts)),
        "'counts' of client 0 holds impossible values: got 3 of 4 negative",
    ),
    "off the simplex": (Sends(change=lambda up: replace(up, probs=2 * up.probs)), "sum to 1"),
    "NaN": (Sends(change=lambda up: replace(up, probs=0 * up.probs / 0)), "not finite"),
    "None": (
        Sends(change=lambda up: None),
        "shared another payload.* got None, allowed: ClassMeans",
    ),
    "another upload": (
        Sends(change=lambda up: mine.Mixtures(up.client_ids, up.probs)),
        "shared another payload than its kind declares: got a Mixtures, allowed: ClassMeans",
    ),
    "rows of others": (
        Sends(change=everybody),
        r"shared knowledge of other clients than were asked: got client ids \[0, 1, 2\]",
    ),
    "another download": (
        Combines(
            change=lambda f: replace(f, teachers=mine.ClassMeans(f.teachers.client_ids, 0, 0))
        ),
        "combined another payload than its kind declares(.|\n)*ClassMeans(.|\n)*Mixtures",
    ),
    "no fusion": (Combines(change=lambda f: f.teachers), "returned no Fusion"),
    "strangers": (
        Combines(
            change=lambda f: Fusion(replace(f.teachers, client_ids=f.teachers.client_ids + 2), None)
        ),
        r"answers clients that there are not(.|\n)*\[3, 4\]",
    ),
    "off the simplex down": (
        Combines(change=lambda f: Fusion(replace(f.teachers, labels=f.teachers.labels + 1), None)),
        "combined is refused: 'labels' of client 0",
    ),
    "exchange not frozen": (Plain(), "The exchange Plain is not a frozen dataclass"),
    "mutable state": (Remembers(), "The exchange Remembers changes itself"),
    "hidden state": (Hides(), "is not deterministic"),
    "global randomness": (Draws(), "is not deterministic"),
    "another process": (Looks(), "something else once clients share no process"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named(mistake):
    exchange, says = WRONG[mistake]
    with pytest.raises(CheckFailed, match=says):
        check_exchange(exchange)
