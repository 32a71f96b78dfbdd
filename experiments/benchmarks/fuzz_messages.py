"""What honest clients send, small, one of each kind: what the fuzzer bends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.models import ModelBank
from fedfuse.payload import COUNTS, NOT_NEGATIVE, SIMPLEX, ArrayField, Bounds, Payload, TextField
from fedfuse.types import ClientMetrics, KnowledgeBank, Space

IDS = (2, 5, 9)
NUM_PUBLIC, NUM_CLASSES, WIDTH = 6, 4, 3
SIZES = (5, 7, 4)
"""Numbers of each client's model."""


def bank(ids: tuple[int, ...]) -> KnowledgeBank:
    """Return what so many clients predict."""
    generator = torch.Generator().manual_seed(len(ids))
    logits = torch.randn(len(ids), NUM_PUBLIC, NUM_CLASSES, generator=generator)
    return KnowledgeBank(torch.tensor(ids), logits, torch.full((len(ids),), 50))


def beside(bank: KnowledgeBank) -> KnowledgeBank:
    """Return the bank with features and prototypes."""
    num_clients = len(bank.client_ids)
    return replace(
        bank,
        features=torch.ones(num_clients, NUM_PUBLIC, WIDTH),
        prototypes=torch.ones(num_clients, NUM_CLASSES, WIDTH),
        present=torch.ones(num_clients, NUM_CLASSES, dtype=torch.bool),
    )


def metrics(ids: tuple[int, ...]) -> ClientMetrics:
    """Return two metrics of each client."""
    values = torch.rand(len(ids), 2, dtype=torch.float64)
    return ClientMetrics(torch.tensor(ids), ("accuracy_own", "loss_own"), values)


def class_knowledge() -> ClassKnowledge:
    """Return prototypes of every class."""
    shape = (len(IDS), NUM_CLASSES)
    return ClassKnowledge(
        torch.tensor(IDS), torch.ones(*shape, WIDTH), torch.ones(shape, dtype=torch.bool)
    )


def models() -> ModelBank:
    """Return models of three sizes."""
    return ModelBank.of(IDS, [9] * len(IDS), [torch.ones(size) for size in SIZES])


@dataclass(frozen=True, slots=True)
class Odds(Payload):
    """A payload of somebody's own, with every kind of field."""

    odds: Annotated[Tensor, ArrayField("K W 2", torch.float64, Bounds(-1, 1))]
    values: Annotated[Tensor, ArrayField("K C W", torch.float16, SIMPLEX)]
    sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    ids: Annotated[Tensor, ArrayField("N", torch.int32, COUNTS, lengths="sizes")]
    space: Annotated[Space, TextField()]
    words: Annotated[tuple[str, ...], TextField(dim="W")]
    kept: Annotated[Tensor | None, ArrayField("K P", torch.bool)] = None


def odds() -> Odds:
    """Return such a payload."""
    return Odds(
        client_ids=torch.tensor(IDS),
        odds=torch.zeros(len(IDS), WIDTH, 2, dtype=torch.float64),
        values=torch.full((len(IDS), NUM_CLASSES, WIDTH), 1 / WIDTH).half(),
        sizes=torch.tensor([2, 0, 3]),
        ids=torch.arange(5, dtype=torch.int32),
        space=Space.LOGITS,
        words=("a", "b", "c"),
        kept=torch.ones(len(IDS), NUM_PUBLIC, dtype=torch.bool),
    )
