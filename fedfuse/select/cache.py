"""SCARLET's cache of fused targets: who has to be asked again, and who is told what.

Azuma et al. (arXiv 2504.19602): server and clients keep the fused target of a public sample for
``duration`` rounds, so that only samples without a live one are predicted, sent up, fused and sent
down. What is read in its authors' code and left out here is an off-by-one: a target of exactly that
age is requested anew but announced as cached, so that the clients throw the fresh one away. Here
one predicate, :func:`live`, decides both. Theirs also drops an expired target and stores its
successor only the next time; ours stores the successor at once.

All of it is bookkeeping with integers: ``stored[P]`` is the round in which each sample's target was
fused, -1 for never.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Int
from fedfuse.validation import require_count

NEVER = -1


class Signal(IntEnum):
    """What the server says about a selected sample; one byte each."""

    CACHED = 0
    """Use the target that you have; none is sent."""
    NEWLY_CACHED = 1
    """The first target of this sample: it is sent, keep it."""
    EXPIRED = 2
    """A fresh target that replaces the one that you have."""
    LEFT_OUT = 3
    """Nobody has answered for it; do not learn it."""


def live(stored: Int[Tensor, " m"], round: int, duration: int) -> Bool[Tensor, " m"]:  # noqa: A002
    """Return which targets still serve in ``round``: those of age 0 to ``duration - 1``.

    >>> live(torch.tensor([-1, 1, 2, 3]), round=4, duration=2)
    tensor([False, False, False,  True])
    """
    return (stored != NEVER) & (round - stored < duration)


@dataclass(frozen=True, slots=True)
class SignalCache:
    """Decide what is requested, what is signalled and what is stored.

    Args:
        duration: Rounds that a target serves, the one it was fused in included; 1 is no cache.
    """

    duration: int = 50

    def __post_init__(self) -> None:
        require_count("SignalCache", "duration", self.duration)

    def empty(self, num_public: int) -> Int[Tensor, " P"]:
        """Return the state of a cache that holds nothing."""
        return torch.full((num_public,), NEVER)

    def request(
        self,
        stored: Int[Tensor, " P"],
        round: int,  # noqa: A002
        index: Int[Tensor, " m"],
    ) -> Bool[Tensor, " m"]:
        """Return which of the selected samples the clients must predict and send."""
        return ~live(stored[index], round, self.duration)

    def signals(
        self,
        stored: Int[Tensor, " P"],
        round: int,  # noqa: A002
        index: Int[Tensor, " m"],
    ) -> Tensor:
        """Return a :class:`Signal` for each selected sample, uint8 [m].

        >>> cache = SignalCache(duration=2)
        >>> cache.signals(torch.tensor([-1, 1, 2, 3]), 4, torch.arange(4))
        tensor([1, 2, 2, 0], dtype=torch.uint8)
        """
        asked = self.request(stored, round, index)
        first = stored[index] == NEVER
        return torch.where(asked, torch.where(first, 1, 2), 0).to(torch.uint8)

    def update(
        self,
        stored: Int[Tensor, " P"],
        round: int,  # noqa: A002
        index: Int[Tensor, " m"],
    ) -> Int[Tensor, " P"]:
        """Return the state after the requested samples have been fused in ``round``."""
        asked = index[self.request(stored, round, index)]
        return stored.index_fill(0, asked, round)


def stale(
    held: Int[Tensor, "K P"], stored: Int[Tensor, " P"], index: Int[Tensor, " m"]
) -> Bool[Tensor, "K m"]:
    """Return which selected targets each client lacks, because it missed a round, and needs sent.

    Args:
        held: The round of the target that each client holds, -1 for none.
        stored: The server's, before it is updated with this round.
        index: The selected samples.

    >>> stale(torch.tensor([[3, -1], [3, 5]]), torch.tensor([3, 5]), torch.arange(2))
    tensor([[False,  True],
            [False, False]])
    """
    return held[:, index] != stored[index]
