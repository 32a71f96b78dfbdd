"""Who listened to whom in the rounds of a run that fused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.results.arms import Array
from fedfuse.errors import ConfigError

MOST_DENSE = 2**30
"""Bytes of the weights of all rounds between all clients, zeros included."""


@dataclass(frozen=True)
class Weights:
    """The fusion weights of a run.

    Args:
        rounds: int [R], ascending.
        clients: Who was fused in each round, ascending ids [k].
        each: The weights between them, a round's [k, k]: row = receiver, column = source.
        num_clients: K.
        class_shares: How much each source counted for each class, the mean over the receivers, a
            round's [k, C]; empty if weights did not differ by class.
    """

    rounds: npt.NDArray[np.integer]
    clients: tuple[npt.NDArray[np.integer], ...]
    each: tuple[Array, ...]
    num_clients: int
    class_shares: tuple[Array, ...] = ()

    def dense(self) -> Array:
        """Return the weights between all clients, [R, K, K]: zero for who was not fused.

        Raises:
            ConfigError: If that is more than :data:`MOST_DENSE` bytes.
        """
        if 4 * len(self.rounds) * self.num_clients**2 > MOST_DENSE:
            raise ConfigError(
                "there are too many clients for a matrix of all of them",
                got=f"{len(self.rounds)} rounds of {self.num_clients} clients",
                allowed=f"{MOST_DENSE // 2**20} MiB of weights",
                next_step="Read them round by round: run.round_weights(ROUND).",
            )
        return np.stack([self.matrix(row) for row in range(len(self.rounds))])

    def matrix(self, row: int) -> Array:
        """Return the weights [K, K] of the round at a place in ``rounds``."""
        whole = np.zeros((self.num_clients, self.num_clients), dtype=np.float32)
        whole[np.ix_(self.clients[row], self.clients[row])] = self.each[row]
        return whole

    def by_class(self, row: int) -> Array:
        """Return the sources' shares by class [K, C] of that round; zero for who was not fused."""
        own = self.class_shares[row]
        whole = np.zeros((self.num_clients, own.shape[1]), dtype=np.float32)
        whole[self.clients[row]] = own
        return whole


def read_weights(tensors: Mapping[str, npt.NDArray[Any]], num_clients: int) -> Weights:
    """Return what a ``weights.safetensors`` holds, whichever of its two forms it has.

    Raises:
        ValueError: If it does not hold together.
    """
    rounds, weights = tensors["rounds"], tensors["weights"]
    if "counts" not in tensors:
        if rounds.ndim != 1 or weights.shape != (len(rounds), num_clients, num_clients):
            raise ValueError(f"weights of the shape {weights.shape}")
        everybody = np.arange(num_clients)
        shares = _shares(tensors, (len(rounds), num_clients))
        return Weights(rounds, (everybody,) * len(rounds), tuple(weights), num_clients, shares)
    counts, ids = tensors["counts"], tensors["clients"]
    shapes = rounds.shape == counts.shape == (len(rounds),) and ids.ndim == weights.ndim == 1
    if not shapes or (counts < 1).any() or (counts > num_clients).any():
        raise ValueError(f"weights of {counts} clients")
    if len(ids) != counts.sum() or len(weights) != (counts**2).sum():
        raise ValueError(f"{len(weights)} weights of {len(ids)} clients")
    clients = np.split(ids, np.cumsum(counts)[:-1])
    if any((np.diff(own) < 1).any() or own[0] < 0 or own[-1] >= num_clients for own in clients):
        raise ValueError("weights of clients that there are not")
    flat = np.split(weights, np.cumsum(counts**2)[:-1])
    each = tuple(own.reshape(k, k) for own, k in zip(flat, counts.tolist(), strict=True))
    shares = _shares(tensors, (len(ids),))
    parts = tuple(np.split(np.stack(shares), np.cumsum(counts)[:-1])) if shares else ()
    return Weights(rounds, tuple(clients), each, num_clients, parts)


def _shares(tensors: Mapping[str, npt.NDArray[Any]], clients: tuple[int, ...]) -> tuple[Array, ...]:
    """Return the shares by class, row by row; nothing where there are none."""
    if "class_shares" not in tensors:
        return ()
    shares = tensors["class_shares"]
    if shares.shape[:-1] != clients:
        raise ValueError(f"class shares of the shape {shares.shape}")
    return tuple(shares)
