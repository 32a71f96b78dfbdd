"""On which occasion clients share their knowledge: what a stage of sharing may know beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.rng import Streams


@dataclass(frozen=True, slots=True)
class SharingContext:
    """What a stage on the clients' side knows when a cohort of k clients shares.

    Everything here is the clients' own: a stage runs where their data are.

    Args:
        arm: The federation they play in.
        round: From 1.
        index: int64 [m], which samples of the public set the round is about.
        class_counts: int64 [k, C], private training samples of each class.
        memory: What each of the k clients remembers from round to round, by name; a stage reads
            and replaces entries under names that begin with its own (``"delta/symbols"``), and
            finds them again in the next round, whichever process the client is in by then.
        streams: The run's random streams.
    """

    arm: str
    round: int
    index: Tensor
    class_counts: Tensor
    memory: Mapping[int, dict[str, Tensor]]
    streams: Streams

    def generator(self, client_id: int, purpose: str) -> torch.Generator:
        """Return the client's own generator for a purpose in this round.

        Draw from nothing else: then the numbers depend neither on the engine nor on who else is
        in the cohort.
        """
        return self.streams.torch("client", client_id, purpose, self.round)
