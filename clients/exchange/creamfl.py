"""CreamFL: features of public samples go up, their contrastive ensemble comes back with targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from clients.exchange.feature_predictions import FeaturePredictions, features_of
from clients.exchange.protocol import Task, Tools
from fedfuse.exchange.beside import FEATURES, Beside
from fedfuse.exchange.creamfl import ContrastiveBeside, InterIntra, NearFeatures
from fedfuse.fusion.contrastive import Contrastive
from fedfuse.train.trainer import Student
from fedfuse.types import Teachers
from fedfuse.validation import require_count, require_number

BEFORE, BEFORE_ROUND = "creamfl/before", "creamfl/round"
"""Where a client keeps its features of a round's samples [m, D], and of which round, until it is
taught: those of its model before the round's local training."""


@dataclass(frozen=True, slots=True)
class CreamFL(FeaturePredictions):
    """Pull a client's features to the reference of their sample, away from others' and from before.

    Args:
        width: D, the numbers that travel per sample beside the C predictions; None for the features
            of the smallest model.
        mu: Weight of both contrastive terms in the lesson; 0 learns of predictions only.
        tau: Temperature of both.
        weight_tau: Temperature of the softmax over samples by which the server weighs features.
        block: Rows of the server's products of samples with samples, held at a time.
        server_weight: Weight of the squared distance to the fused features in what a model on the
            server learns; clients then get that model's features in their place.
    """

    width: int | None = 256
    mu: float = 0.5
    tau: float = 0.5
    weight_tau: float = 1.0
    block: int = 4096
    server_weight: float = 0.3
    up: ClassVar[frozenset[str]] = FEATURES
    down: ClassVar[frozenset[str]] = FEATURES
    batchable: ClassVar[bool] = False
    relational: ClassVar[bool] = True

    def __post_init__(self) -> None:
        FeaturePredictions.__post_init__(self)
        require_number("CreamFL", "mu", self.mu, at_least=0)
        require_number("CreamFL", "tau", self.tau, above=0)
        require_number("CreamFL", "weight_tau", self.weight_tau, above=0)
        require_count("CreamFL", "block", self.block)
        require_number("CreamFL", "server_weight", self.server_weight, at_least=0)

    def beside(self) -> Beside:
        """Return the contrastive ensemble of the features."""
        return ContrastiveBeside(Contrastive(tau=self.weight_tau, block=self.block))

    @property
    def of_server(self) -> NearFeatures | None:
        """What a model on the server learns of the fused features; None for nothing."""
        return NearFeatures(self.server_weight) if self.server_weight else None

    def train(
        self, held: Sequence[Student], tools: Tools, round_: int, *, exchanging: bool
    ) -> list[Task]:
        """Return the local epochs; what the models made of the samples before is remembered."""
        if exchanging and self.mu > 0:
            for student, rows in zip(held, features_of(held, tools, round_), strict=True):
                memory = tools.memory(student.client_id)
                memory[BEFORE], memory[BEFORE_ROUND] = rows, torch.tensor(round_)
        return FeaturePredictions.train(self, held, tools, round_, exchanging=exchanging)

    def lesson(
        self, tasks: list[Task], tools: Tools, round_: int, received: Teachers
    ) -> list[Task]:
        """Return the steps of distillation with both contrastive terms.

        Who has not trained in the round (its upload came late) is taught from its features as
        they are.
        """
        if self.mu == 0:
            return tasks
        assert received.features is not None
        told = []
        for (student, _), reference in zip(tasks, received.features, strict=True):
            memory = tools.memory(student.client_id)
            before, at = memory.pop(BEFORE, None), int(memory.pop(BEFORE_ROUND, torch.tensor(0)))
            if before is None or at != round_:
                [before] = features_of([student], tools, round_)
            told.append(torch.cat([reference, before], dim=1))
        return self.with_term(tasks, tools, InterIntra(self.mu, self.tau), told)
