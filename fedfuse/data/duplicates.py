"""Find samples that appear twice: disjoint indices do not make disjoint content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.types import FederatedData, IntArray

BLOCK = 4096
"""Rows that are read at once: one by one takes three times as long."""


def row_hashes(inputs: npt.NDArray[Any], index: IntArray | None = None) -> npt.NDArray[np.uint64]:
    """Return a 64-bit content hash per row [N]; equal rows have equal hashes.

    Args:
        inputs: Samples [N, ...].
        index: The rows to hash; None for all.
    """
    rows, blake2b, digests = np.arange(len(inputs)) if index is None else index, hashlib.blake2b, []
    for first in range(0, len(rows), BLOCK):
        block = np.asarray(inputs[rows[first : first + BLOCK]])
        content, size = block.tobytes(), block.nbytes // len(block)
        digests += [
            blake2b(content[at : at + size], digest_size=8).digest()
            for at in range(0, len(content), size)
        ]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def count_duplicates(data: FederatedData) -> dict[str, int]:
    """Return how many samples of one part have an exact copy in another.

    Real data sets hold a few identical images. They are counted and not removed, so that the
    pools stay those that others publish numbers on.

    Args:
        data: The federated data; the private samples of all clients count as one
            part, and so do the balanced test set and the clients' own tests.

    Returns:
        ``public_in_private``, ``public_in_test`` and ``test_in_private``.
    """
    owned = [part for client in data.clients for part in (client.train, client.val)]
    private = [Rows(data.train.inputs, np.concatenate(owned))]
    public = [Rows(data.public.inputs, np.arange(len(data.public)))]
    test = [Rows(data.test.inputs, np.arange(len(data.test)))]
    if data.own_test is not None:  # own tests have samples that the balanced test set has not
        own = np.zeros(len(data.own_test), dtype=np.bool_)
        own[np.concatenate([client.test for client in data.clients])] = True
        if data.kept is not None:
            own[data.kept] = False
        test.append(Rows(data.own_test.inputs, np.flatnonzero(own)))
    return {
        "public_in_private": _copies(public, private),
        "public_in_test": _copies(public, test),
        "test_in_private": _copies(test, private),
    }


@dataclass(frozen=True)
class Rows:
    """Rows ``index`` of samples [N, ...]."""

    inputs: npt.NDArray[Any]
    index: IntArray

    @cached_property
    def sketch(self) -> npt.NDArray[np.uint64]:
        """A number per row, made in one pass of vector instructions; equal rows have equal ones.

        Different rows seldom have: what meets is compared by :func:`row_hashes`.
        """
        found, factors = [np.zeros(0, dtype=np.uint64)], None
        for first in range(0, len(self.index), BLOCK):
            block = np.asarray(self.inputs[self.index[first : first + BLOCK]])
            content = np.ascontiguousarray(block).view(np.uint8).reshape(len(block), -1)
            padded = np.pad(content, ((0, 0), (0, -content.shape[1] % 8))).view(np.uint64)
            if factors is None:
                rng = np.random.default_rng(0)
                factors = rng.integers(2**63, size=padded.shape[1], dtype=np.uint64) * 2 + 1
            found.append(((padded ^ (padded >> 29)) * factors).sum(axis=1, dtype=np.uint64))
        return np.concatenate(found)

    def among(self, sketches: npt.NDArray[np.uint64]) -> Rows:
        """Return those of the rows whose sketch is among these."""
        if not len(sketches):
            return Rows(self.inputs, self.index[:0])
        ordered = np.sort(sketches)
        at = np.minimum(np.searchsorted(ordered, self.sketch), len(ordered) - 1)
        return Rows(self.inputs, self.index[ordered[at] == self.sketch])

    def hashes(self) -> npt.NDArray[np.uint64]:
        """Return a content hash per row."""
        return row_hashes(self.inputs, self.index)


def _copies(ours: list[Rows], theirs: list[Rows]) -> int:
    """Return how many of our rows are equal to one of theirs."""
    likely = [rows.among(np.concatenate([other.sketch for other in theirs])) for rows in ours]
    met = np.concatenate([rows.sketch for rows in likely])
    hashes = np.concatenate([other.among(met).hashes() for other in theirs])
    return sum(int(np.isin(rows.hashes(), hashes).sum()) for rows in likely)
