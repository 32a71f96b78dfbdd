"""Ask others only where unsure: CooK's knowledge on demand (arXiv 2305.09955).

Of the paper the abstract was read; by what a client is unsure is ours: the entropy of its own
prediction over that of no idea at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.request.knowledge import best, budget, entropy
from fedfuse.shapes import Bool, Float
from fedfuse.validation import require_number


def doubt(own: Float[Tensor, "m C"]) -> Float[Tensor, " m"]:
    """Return ``H(p) / log C`` of logits, from 0 (sure) to 1 (no idea).

    >>> doubt(torch.tensor([[0.97, 0.03], [0.6, 0.4], [0.8, 0.2]]).log())
    tensor([0.1944, 0.9710, 0.7219])
    """
    return entropy(own.softmax(dim=-1)) / math.log(max(own.shape[-1], 2))


@dataclass(frozen=True, slots=True)
class OnDemand:
    """Wish for the targets of samples of which the client itself is unsure.

    A client that is sure of everything wishes for the sample of which it is least sure.

    Args:
        theta: Wish where the doubt is above it; 0 wishes for everything.
        share: Wish for this share of the samples, the most doubtful, in theta's place; None takes
            theta.
    """

    theta: float = 0.5
    share: float | None = None
    remembers_samples: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_number("OnDemand", "theta", self.theta, at_least=0, at_most=1)
        if self.share is not None:
            require_number("OnDemand", "share", self.share, above=0, at_most=1)

    def __call__(
        self,
        own: Float[Tensor, "m C"],
        last: Tensor | None,  # noqa: ARG002 - what it knows itself is the question
        class_counts: Tensor,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Bool[Tensor, " m"]:
        """Return which targets the client wants."""
        unsure = doubt(own)
        if self.share is not None:
            return best(unsure, budget(None, self.share, len(unsure)))
        if self.theta == 0:
            return torch.ones(len(unsure), dtype=torch.bool)
        wanted = unsure > self.theta
        return wanted if bool(wanted.any()) else best(unsure, 1)
