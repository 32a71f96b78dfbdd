"""Samples drawn at random: the control of every request that chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedfuse.request.knowledge import budget, require_budget
from fedfuse.request.remembering import Remembering
from fedfuse.rng import Streams
from fedfuse.select.selections import random_subset
from fedfuse.shapes import Bool, Int
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.validation import require_count


@dataclass(frozen=True, slots=True)
class Drawn(Remembering):
    """Ask for samples of the round that are drawn at random, whatever anybody knows of them.

    As others it asks for all at the first exchange. Unlike ``select=random`` it keeps the number of
    steps that distillation takes.

    Args:
        share: Of the round's samples, how many are asked for.
        size: How many instead; None for the share.
        seed: Of the draws.
    """

    share: float = 0.5
    size: int | None = None
    seed: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_budget("Drawn", self.share, self.size)
        require_count("Drawn", "seed", self.seed, at_least=0)

    def __call__(
        self,
        round: int,  # noqa: A002
        index: Int[Tensor, " m"],
        client_ids: Sequence[int],  # noqa: ARG002
    ) -> Bool[Tensor, " m"]:
        """Return which samples everybody is asked for."""
        if not self.memory:
            return torch.ones(len(index), dtype=torch.bool)
        draw = Streams(self.seed).torch("request", "drawn", round)
        number = budget(self.size, self.share, len(index))
        asked = torch.zeros(len(index), dtype=torch.bool)
        asked[random_subset(len(index), number, draw)] = True
        return asked

    def note(
        self,
        bank: KnowledgeBank,  # noqa: ARG002
        teachers: Teachers,  # noqa: ARG002
        labels: Int[Tensor, " m"] | None,  # noqa: ARG002
        round: int,  # noqa: A002, ARG002
        index: Int[Tensor, " m"],  # noqa: ARG002
    ) -> None:
        """Know that there was an exchange."""
        self.memory["noted"] = torch.tensor(True)
