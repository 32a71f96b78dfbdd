"""Which types a method's clients and server exchange, and how large they must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedfuse.exchange.payloads import ClassKnowledge, ModelBank
from fedfuse.types import Fusion, KnowledgeBank, Teachers

Upload = KnowledgeBank | ClassKnowledge | ModelBank
Download = Teachers | ClassKnowledge | ModelBank

Combine = Callable[[Any, int], Fusion]
"""The server's half: what clients sent in a round (and its number) to what they get back."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What travels up and down in a round.

    Args:
        upload: The type that clients send.
        download: The type that comes back.
        width: D of :class:`ClassKnowledge`; None where nothing has one.
        model_sizes: Numbers in each client's model vector, by client id; empty where no models
            travel.
        counted: Whether the bytes count as the method's; those of a bound that no federation
            could reach do not.
        pooled: Whether one client of each architecture trains for all, on everybody's data.
    """

    upload: type[Any] = KnowledgeBank
    download: type[Any] = Teachers
    width: int | None = None
    model_sizes: tuple[int, ...] = ()
    counted: bool = True
    pooled: bool = False

    def sizes_of(self, client_ids: Sequence[int]) -> tuple[int, ...]:
        """Return the lengths of these clients' model vectors; empty where no models travel."""
        return tuple(self.model_sizes[i] for i in client_ids) if self.model_sizes else ()


PREDICTIONS = Kind()
"""Predictions on the public set up, one teacher per client down."""
