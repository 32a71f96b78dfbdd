"""Find samples that appear twice: disjoint indices do not make disjoint content."""

from __future__ import annotations

import hashlib
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
    private = row_hashes(data.train.inputs, np.concatenate(owned))
    public = row_hashes(data.public.inputs)
    test = row_hashes(data.test.inputs)
    if data.own_test is not None:  # own tests have samples that the balanced test set has not
        own = np.unique(np.concatenate([client.test for client in data.clients]))
        own = own if data.kept is None else np.setdiff1d(own, data.kept)
        test = np.concatenate([test, row_hashes(data.own_test.inputs, own)])
    return {
        "public_in_private": int(np.isin(public, private).sum()),
        "public_in_test": int(np.isin(public, test).sum()),
        "test_in_private": int(np.isin(test, private).sum()),
    }
