"""What an attack is, and what an adversary knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fedfuse.shapes import Float


@dataclass(frozen=True, slots=True)
class Scene:
    """What one adversary knows when it prepares what it sends.

    Args:
        victim: Class shares [C] of the benign client that this adversary is after; an adversary
            of this strength knows them.
        received: The last targets that the server sent it, probabilities or logits [m, C]; None
            before the first, or if they were about other samples.
        own: The adversary's random numbers of this round.
        common: Random numbers that all adversaries draw alike: what they have agreed on.
    """

    victim: Float[Tensor, " C"]
    received: Float[Tensor, "m C"] | None
    own: torch.Generator
    common: torch.Generator


class Attack(Protocol):
    """Turn an adversary's honest labels and predictions into what it uses and sends.

    ``fraction`` is the share of the clients that are adversaries.
    """

    @property
    def fraction(self) -> float:
        """Return the share of the clients that are adversaries."""
        ...

    def labels(self, labels: Tensor, num_classes: int) -> Tensor:
        """Return the labels [N] that it trains on."""
        ...

    def predictions(self, logits: Tensor, scene: Scene) -> Tensor:
        """Return the logits [m, C] that it sends."""
        ...
