"""The clients of each round, drawn from the run's streams: the same in every arm and engine."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedfuse.declarations import declared, part_name
from fedfuse.errors import FedfuseError
from fedfuse.protocols import Participation
from fedfuse.rng import Streams
from fedfuse.user_code import kind_of


@dataclass(frozen=True, slots=True)
class Participants:
    """Who takes part.

    Args:
        sampler: How they are chosen.
        sizes: Private training samples of each client; K of them.
        streams: The run's random streams.
    """

    sampler: Participation
    sizes: tuple[int, ...]
    streams: Streams

    def ids(self, round_: int, *, alone: bool = False) -> list[int]:
        """Return the round's clients, ascending; ``alone`` in an arm that exchanges nothing.

        Raises:
            FedfuseError: If the sampler returns something else.
        """
        num_clients = len(self.sizes)
        if alone and declared(self.sampler, "all_train_alone", False):
            return list(range(num_clients))
        generator = self.streams.torch("participation", round_)
        chosen = self.sampler(round_, torch.tensor(self.sizes), generator)
        right = isinstance(chosen, torch.Tensor) and chosen.ndim == 1
        right = right and not chosen.is_floating_point()
        ids: list[int] = chosen.tolist() if right else []
        if not ids or ids != sorted(set(ids)) or ids[0] < 0 or ids[-1] >= num_clients:
            raise FedfuseError(
                f"The sampler {part_name(self.sampler)} broke its promise in round {round_}",
                got=f"clients {ids[:20]}" if ids else kind_of(chosen),
                allowed=f"a tensor of ascending ids from 0 to {num_clients - 1}, at least one",
            )
        return ids
