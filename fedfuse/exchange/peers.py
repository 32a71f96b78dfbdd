"""What all clients said of the public samples, on its way to each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fedfuse.payload import for_all
from fedfuse.types import Fusion, KnowledgeBank, Teachers

PEERS = frozenset({"peers", "heard"})
"""Fields of the teachers; an exchange whose kind asks for them gets them from the server."""


@dataclass(frozen=True, slots=True)
class AlsoPeers:
    """Send everybody what everybody said, a place for each client of the federation.

    Args:
        num_clients: K, of all clients; whoever took no part has zeros, and is not ``heard``.
    """

    num_clients: int

    def __call__(self, knowledge: KnowledgeBank, fusion: Fusion, round_: int) -> Fusion:  # noqa: ARG002
        """Return the fusion whose teachers hold the clients' predictions beside the target."""
        teachers = fusion.teachers
        assert isinstance(teachers, Teachers)
        said = knowledge.logits.float()
        peers = said.new_zeros(self.num_clients, *said.shape[1:])
        heard = torch.zeros(self.num_clients, dtype=torch.bool)
        peers[knowledge.client_ids], heard[knowledge.client_ids] = said, True
        # Views: a copy for each receiver would be K times all that was said.
        k = teachers.num_clients
        told = replace(teachers, peers=for_all(peers, k), heard=for_all(heard, k))
        return replace(fusion, teachers=told)
