"""Answer where local and global model disagree, seen through the client's class counts.

KSAS, the selection of KAFAL (Knowledge-Aware Federated Active Learning with Non-IID Data, arXiv
2211.13579), read in the authors' code (ycao5602/KAFAL, ``main.py``). There the global model is
asked about the client's own unlabelled samples, and what is chosen is labelled; here the client's
last teacher stands for it, on public samples, and what is chosen is answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.request.knowledge import best, budget, require_budget
from fedfuse.shapes import Bool, Float, Int
from fedfuse.validation import require_number, require_one_of

DIRECTIONS = ("frequent", "rare")


def discrepancy(
    own: Float[Tensor, "m C"], teacher: Float[Tensor, "m C"], log_counts: Float[Tensor, " C"]
) -> Float[Tensor, " m"]:
    """Return the mean of both KL divergences of ``softmax(z + log n)``, NaN where a teacher is.

    Args:
        own: The client's logits.
        teacher: Those of its last teacher.
        log_counts: What is added to both.

    >>> one, other = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)
    >>> discrepancy(one, other, torch.tensor([3.0, 1.0]).log())
    tensor([0.0704])
    """
    mine, theirs = ((z + log_counts).log_softmax(dim=-1) for z in (own, teacher))
    return ((mine.exp() - theirs.exp()) * (mine - theirs)).sum(dim=-1) / 2


@dataclass(frozen=True, slots=True)
class KSAS:
    """Answer for the samples of which a client and its last teacher say the most different things.

    Before a first teacher it answers for all. Samples for which it never got a target come first.

    Args:
        size: Samples to answer for; None takes ``share``.
        share: Samples to answer for, of the round's.
        floor: Samples that a class counts for of which the client has none; the authors' code,
            without one, gives NaN.
        direction: ``frequent`` looks at classes that the client has much of, as published; ``rare``
            at the others, which is ours.
    """

    size: int | None = None
    share: float = 0.5
    floor: float = 0.5
    direction: str = "frequent"
    remembers_samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_budget("KSAS", self.share, self.size)
        require_number("KSAS", "floor", self.floor, above=0)
        require_one_of("KSAS", "direction", self.direction, DIRECTIONS)

    def __call__(
        self,
        own: Float[Tensor, "m C"],
        last: Float[Tensor, "m C"] | None,
        class_counts: Int[Tensor, " C"] | Float[Tensor, " C"],
        generator: torch.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> Bool[Tensor, " m"]:
        """Return which samples the client answers for."""
        if last is None:
            return torch.ones(len(own), dtype=torch.bool)
        logs = class_counts.to(own).clamp_min(self.floor).log()
        seen = logs if self.direction == "frequent" else -logs
        return best(discrepancy(own, last, seen), budget(self.size, self.share, len(own)))
