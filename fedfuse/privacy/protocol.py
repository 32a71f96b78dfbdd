"""What a privacy mechanism is, and what one that promises something must be able to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Privacy(Protocol):
    """Change one client's logits [m, C] before they leave it; draw from ``generator`` alone.

    The result has the same shape, is finite and float32, and means logits to whoever gets it. A
    mechanism that declares ``needs_class_counts = True`` gets the client's private samples of each
    class, int64 [C], as third argument.
    """

    def __call__(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """Return what leaves the client."""
        ...


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What differential privacy promises about one client's whole run.

    Neighbouring data sets: any two private data sets of one client, equal in nothing. What bounds
    their difference is only the clipping of every released vector, so the promise is the same for
    one sample and for the whole client. It covers the released predictions, in all rounds and
    however the rounds depend on each other (adaptive composition); not what leaves beside them
    (sizes, metrics, masks, a label histogram).

    Args:
        mechanism: In words.
        epsilon: Of all queries together.
        delta: Likewise.
        epsilon_round: Of the largest round alone, at the same delta.
        num_queries: Vectors released in all rounds, one a public sample and round.
        noise: Standard deviation of the noise per number.
        clip: The largest norm of what the noise is added to.
    """

    mechanism: str
    epsilon: float
    delta: float
    epsilon_round: float
    num_queries: int
    noise: float
    clip: float


@runtime_checkable
class Calibrated(Protocol):
    """A mechanism whose noise follows from a budget for the whole run."""

    def for_queries(self, num_queries: int) -> Privacy:
        """Return the mechanism with the noise that this many released vectors need."""
        ...

    def spent(self, queries: list[int]) -> Guarantee:
        """Return what releasing ``queries[r]`` vectors in each round r costs."""
        ...
