"""Choose the clients that take part in a round: ascending ids [k] out of K, at least one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.shapes import Int
from fedfuse.validation import require_count, require_number


def share_of(fraction: float, num_clients: int) -> int:
    """Return how many clients a fraction is: rounded, at least one.

    >>> share_of(0.25, 10), share_of(0.01, 10)
    (2, 1)
    """
    return max(1, round(fraction * num_clients))


@dataclass(frozen=True, slots=True)
class Everybody:
    """Every client takes part in every round."""

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        sizes: Int[Tensor, " K"],
        generator: torch.Generator,  # noqa: ARG002
    ) -> Int[Tensor, " K"]:
        """Return all ids."""
        return torch.arange(len(sizes))


@dataclass(frozen=True, slots=True)
class HeldIn:
    """The first clients take part in every round, the others are held out: they never do.

    Where clients learn alone (the controls), everybody trains, so that what those held out get for
    nothing can be compared with what they could learn.

    Args:
        clients: How many take part; all, if there are no more.
    """

    clients: int = 8
    all_train_alone: ClassVar[bool] = True
    extra: ClassVar[str] = "who is held out trains where clients learn alone, and not in the method"

    def __post_init__(self) -> None:
        require_count("HeldIn", "clients", self.clients)

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        sizes: Int[Tensor, " K"],
        generator: torch.Generator,  # noqa: ARG002
    ) -> Int[Tensor, " k"]:
        """Return the first ids."""
        return torch.arange(min(self.clients, len(sizes)))


@dataclass(frozen=True, slots=True)
class Uniform:
    """Draw a share of the clients for each round, each set of them as likely as any other.

    Args:
        fraction: Share of the clients, above 0 and at most 1.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        require_number("Uniform", "fraction", self.fraction, above=0, at_most=1)

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        sizes: Int[Tensor, " K"],
        generator: torch.Generator,
    ) -> Int[Tensor, " k"]:
        """Return the ids of the round."""
        count = share_of(self.fraction, len(sizes))
        return torch.randperm(len(sizes), generator=generator)[:count].sort().values


@dataclass(frozen=True, slots=True)
class BySize:
    """Draw a share of the clients, one after the other, each draw in proportion to data size.

    Args:
        fraction: Share of the clients, above 0 and at most 1.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        require_number("BySize", "fraction", self.fraction, above=0, at_most=1)

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        sizes: Int[Tensor, " K"],
        generator: torch.Generator,
    ) -> Int[Tensor, " k"]:
        """Return the ids of the round.

        Raises:
            FedfuseError: If a size is unknown, as in a server of sites with data of their own.
        """
        if bool((sizes < 1).any()):
            raise FedfuseError(
                "participation=by_size needs the sizes of the clients' data",
                got=f"sizes {sizes.tolist()[:20]}",
                next_step="Choose participation=uniform.",
            )
        count = share_of(self.fraction, len(sizes))
        # The largest log-size plus Gumbel noise come in the order of successive draws without
        # replacement (Efraimidis and Spirakis 2006 give the same with exponents).
        draws = torch.rand(len(sizes), generator=generator, dtype=torch.float64)
        keys = sizes.double().log() - (-draws.log()).log()
        return keys.topk(count).indices.sort().values


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Let the clients take turns, in the order of their ids.

    Args:
        fraction: Share of the clients, above 0 and at most 1.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        require_number("RoundRobin", "fraction", self.fraction, above=0, at_most=1)

    def __call__(
        self,
        round: int,  # noqa: A002
        sizes: Int[Tensor, " K"],
        generator: torch.Generator,  # noqa: ARG002
    ) -> Int[Tensor, " k"]:
        """Return the ids of the round.

        >>> robin, sizes = RoundRobin(0.5), torch.ones(4, dtype=torch.int64)
        >>> [robin(r, sizes, torch.Generator()).tolist() for r in (1, 2, 3)]
        [[0, 1], [2, 3], [0, 1]]
        """
        count = share_of(self.fraction, len(sizes))
        first = (round - 1) * count
        return ((torch.arange(count) + first) % len(sizes)).sort().values
