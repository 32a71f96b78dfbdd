"""Models go up, their average comes back: FedAvg and its kin.

What a vector holds is a :class:`fedfuse.exchange.layout.Layout`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.exchange.layout import Layout
from fedfuse.exchange.weights import weighted_average
from fedfuse.payload import COUNTS, NOT_NEGATIVE, ArrayField, Payload
from fedfuse.types import Fusion


@dataclass(frozen=True, slots=True)
class ModelBank(Payload):
    """Models as flat vectors, one after the other; they may be of different lengths.

    Args:
        client_ids: int64 [K], ascending.
        num_examples: int64 [K], private training samples.
        sizes: int64 [K], numbers per model.
        values: float32 [sum(sizes)], in the order of the clients.

    >>> a = ModelBank.of([1], [10], [torch.tensor([1.0, 1.0])])
    >>> b = ModelBank.of([0], [20], [torch.tensor([0.0])])
    >>> ModelBank.stack([a, b]).values
    tensor([0., 1., 1.])
    """

    num_examples: Annotated[Tensor, ArrayField("K", torch.int64, COUNTS, own=True)]
    sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    values: Annotated[Tensor, ArrayField("N", lengths="sizes")]

    def vectors(self) -> list[Tensor]:
        """Return each client's vector, a view."""
        return self.split("values")

    @classmethod
    def of(
        cls, client_ids: Sequence[int], num_examples: Sequence[int], vectors: Sequence[Tensor]
    ) -> ModelBank:
        """Return the bank of these vectors, one per client."""
        return cls(
            client_ids=torch.tensor(client_ids),
            num_examples=torch.tensor(num_examples),
            sizes=torch.tensor([len(vector) for vector in vectors]),
            values=torch.cat(list(vectors)),
        )


@dataclass(frozen=True, slots=True)
class AverageModels:
    """FedAvg: the mean of the models that came, within each architecture.

    Every client of an architecture gets its mean, also one that did not take part in the round:
    nobody goes on from a model that is out of date.

    Args:
        architectures: Each client's architecture, by client id.
        layouts: Architecture to how its models are laid out.
        by_samples: Weigh models by their clients' private samples (FedAvg) instead of equally.
    """

    architectures: tuple[str, ...]
    layouts: Mapping[str, Layout]
    by_samples: bool = True

    def __call__(self, bank: ModelBank, round_: int) -> Fusion:
        """Return each client's average and the shares in it, row = receiver."""
        senders, vectors = bank.client_ids.tolist(), bank.vectors()
        sizes = bank.num_examples if self.by_samples else torch.ones(len(senders))
        averages, shares = {}, torch.zeros(len(self.architectures), len(self.architectures))
        for name, layout in self.layouts.items():
            rows = [row for row, i in enumerate(senders) if self.architectures[i] == name]
            if not rows or float(sizes[rows].sum()) == 0:
                continue
            mean = weighted_average([layout.unflatten(vectors[row]) for row in rows], sizes[rows])
            averages[name] = torch.cat([value.reshape(-1).float() for value in mean.values()])
            receivers = [i for i, own in enumerate(self.architectures) if own == name]
            share = torch.zeros(len(self.architectures))
            share[bank.client_ids[rows]] = (sizes[rows] / sizes[rows].sum()).float()
            shares[receivers] = share
        receivers = [i for i, name in enumerate(self.architectures) if name in averages]
        if not receivers:
            raise KnowledgeError(
                f"No model arrived in round {round_} that could be averaged",
                got=f"models of {len(senders)} clients, all without weight",
            )
        down = ModelBank.of(
            receivers,
            [0] * len(receivers),
            [averages[self.architectures[i]] for i in receivers],
        )
        return Fusion(down, shares[receivers][:, receivers])
