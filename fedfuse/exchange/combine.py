"""The server's half of the exchanges without a public set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fedfuse.errors import KnowledgeError
from fedfuse.exchange.fd import leave_one_out
from fedfuse.exchange.layout import Layout
from fedfuse.exchange.payloads import ClassKnowledge, ModelBank
from fedfuse.exchange.prototypes import mean_prototypes
from fedfuse.exchange.weights import weighted_average
from fedfuse.types import Fusion


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """FD: each client gets, per class, the mean over the *other* clients that own the class."""

    def __call__(self, knowledge: ClassKnowledge, round_: int) -> Fusion:  # noqa: ARG002
        """Return each client's own class teachers."""
        teachers, taught = leave_one_out(knowledge.values, knowledge.present)
        return Fusion(ClassKnowledge(knowledge.client_ids, teachers, taught), None)


@dataclass(frozen=True, slots=True)
class MeanPrototypes:
    """FedProto: everybody gets the mean prototype of each class over its owners.

    Args:
        by_count: Weigh owners by their samples instead of equally; they must have sent counts.
    """

    by_count: bool = False

    def __call__(self, knowledge: ClassKnowledge, round_: int) -> Fusion:  # noqa: ARG002
        """Return the same prototypes for each client."""
        counts = knowledge.present.long()
        if self.by_count:
            assert knowledge.num_examples is not None
            counts = knowledge.num_examples
        means, owned = mean_prototypes(knowledge.values, counts, by_count=self.by_count)
        k = knowledge.num_clients
        down = ClassKnowledge(
            knowledge.client_ids,
            means.expand(k, *means.shape).contiguous(),
            owned.expand(k, *owned.shape).contiguous(),
        )
        return Fusion(down, None)


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
