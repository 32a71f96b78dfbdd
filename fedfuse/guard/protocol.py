"""What a guard knows, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fedfuse.shapes import Float, Int
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Paired:
    """What two models of one client say of the same samples, whose labels taught neither.

    Args:
        local: Log-probabilities of its local twin, float64 [n, C].
        fused: Those of the model that fusion made, float64 [n, C], of the same label prior.
        labels: int64 [n].
        weight: float64 [n], at least 0: how much a sample counts towards the distribution that is
            asked about.
    """

    local: Float[Tensor, "n C"]
    fused: Float[Tensor, "n C"]
    labels: Int[Tensor, " n"]
    weight: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a client deploys where one question is asked.

    Args:
        share: Of the fused model in the mixture of log-probabilities: 1 deploys it, 0 the local
            twin.
        decided: Whether the data said so; False if there was not enough of it to know, None if
            nothing was tested.
    """

    share: float
    decided: bool | None = None

    def __post_init__(self) -> None:
        require_number("Choice", "share", self.share, at_least=0, at_most=1)


class Guard(Protocol):
    """Decide what a client deploys.

    Called once at every evaluation, on the client, with answers to samples that it holds back.
    The decision changes nothing of what is trained or shared.
    """

    def __call__(self, own: Paired, balanced: Paired, num_clients: int) -> tuple[Choice, Choice]:
        """Return what answers the client's own distribution, and what a balanced one.

        Args:
            own: Answers with the client's label prior, weighed towards its own distribution.
            balanced: Answers without it, weighed towards one with equal classes: of labelled
                public samples, which the fused model may have had as a lesson, without their
                labels; without such, of validation samples, where classes may be missing.
            num_clients: Clients of the federation, each of which decides.
        """
        ...
