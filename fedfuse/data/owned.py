"""What one client owns: its training, validation and own test rows, and its feature shift."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedfuse.data.choices import choose
from fedfuse.data.draw import apportion_rows, by_class, without
from fedfuse.data.raw import RawDataset
from fedfuse.errors import DataError, PartitionError
from fedfuse.protocols import Partitioner, ShiftsFeatures
from fedfuse.rng import Streams
from fedfuse.types import ClientData, IntArray, Transform
from fedfuse.validation import require_count, require_number


@dataclass(frozen=True)
class Testable:
    """What the clients' own test samples are drawn from.

    Args:
        labels: Of a pool [N].
        rows: Rows of the pool that may be taken.
        first: Those of them that everybody is tested on anyway: taken first, for they cost nothing.
        num_classes: C.
    """

    labels: IntArray
    rows: IntArray
    first: IntArray
    num_classes: int

    @cached_property
    def supply(self) -> IntArray:
        """How many samples of each class may be taken, [C]."""
        return np.bincount(self.labels[self.rows], minlength=self.num_classes)

    @cached_property
    def _pools(self) -> tuple[IntArray, IntArray]:
        """All rows, by class those that are taken first, then the others; the pools' sizes [2C]."""
        rest = without(self.rows, self.first)
        pools = [
            pool
            for rows in (self.first, rest)
            for pool in by_class(self.labels, rows, self.num_classes)
        ]
        return np.concatenate(pools), np.array([len(pool) for pool in pools])

    def draw(self, counts: IntArray, rngs: Sequence[np.random.Generator]) -> IntArray:
        """Return rows of all clients, one client after the other, each client's ascending.

        Args:
            counts: How many of each class every client gets [K, C].
            rngs: The clients' generators.
        """
        rows, sizes = self._pools
        early = np.minimum(counts, sizes[: self.num_classes])
        asked = np.concatenate([early, counts - early], axis=1)
        drawn = choose(np.broadcast_to(sizes, asked.shape), asked, rngs)
        found = rows[
            np.repeat(np.tile(np.cumsum(sizes) - sizes, len(asked)), asked.ravel()) + drawn
        ]
        # Sorting all at once: a client's number stands before its rows.
        high = int(rows.max(initial=0)) + 1
        owner = np.repeat(np.arange(len(asked)), asked.sum(axis=1)) * high
        return np.sort(owner + found) - owner


@dataclass(frozen=True, slots=True)
class Share:
    """How a client's samples are used.

    Args:
        val_fraction: Share of them that it holds back, stratified; above 0 at least one sample,
            at 0 none.
        own_test_size: Largest number of test samples with the client's own class distribution. It
            gets fewer where the test pool has little of a class that it has much of: the
            proportions are kept, not the number.
        batch_size: Of training; each client must fill at least one batch.
    """

    val_fraction: float
    own_test_size: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("batch_size", "own_test_size"):
            require_count("the data split", name, getattr(self, name))
        require_number("the data split", "val_fraction", self.val_fraction, at_least=0, below=1)


BLOCK = 1024
"""Clients whose rows are drawn together: each has two random streams of its own."""


def own(
    client_ids: Sequence[int],
    parts: Sequence[IntArray],
    labels: IntArray,
    testable: Testable,
    share: Share,
    streams: Streams,
    shift: Callable[[int], Transform | None],
    tested: npt.NDArray[Any] | None = None,
) -> Iterator[ClientData]:
    """Yield the clients' train, validation and own test rows.

    Args:
        client_ids: The clients.
        parts: Each one's rows of the training file, ascending.
        labels: Of that file.
        testable: What their own test samples are drawn from.
        share: How their samples are used.
        streams: The run's random streams.
        shift: A client's feature shift.
        tested: Class shares [K, C], in any unit, of what clients are tested on; those of their
            own samples if None.

    Raises:
        DataError: If there is nothing to test one of them on.
    """
    for first in range(0, len(client_ids), BLOCK):
        block = slice(first, first + BLOCK)
        mixes = None if tested is None else tested[block]
        yield from _own(
            client_ids[block], parts[block], labels, testable, share, streams, shift, mixes
        )


def _own(
    client_ids: Sequence[int],
    parts: Sequence[IntArray],
    labels: IntArray,
    testable: Testable,
    share: Share,
    streams: Streams,
    shift: Callable[[int], Transform | None],
    tested: npt.NDArray[Any] | None,
) -> Iterator[ClientData]:
    """Yield a block of clients; what needs no random numbers is done for all of them at once."""
    num_clients, num_classes = len(parts), testable.num_classes
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    rows = np.concatenate(parts)
    kinds = np.repeat(np.arange(num_clients), sizes) * num_classes + labels[rows]
    have = np.bincount(kinds, minlength=num_clients * num_classes).reshape(-1, num_classes)
    held = np.clip(np.rint(share.val_fraction * sizes).astype(np.int64), 1, sizes - 1)
    held = np.where((sizes > 1) & (share.val_fraction > 0), held, 0)
    drawing = [streams.numpy("data", "val", i) for i in client_ids]
    noise = np.stack([rng.random(num_classes) for rng in drawing])
    kept = apportion_rows(have, have, totals=held, noise=noise)
    # Places in ``rows`` by client and class; parts ascend, so places do as rows do.
    places = np.argsort(kinds, kind="stable")
    begins = np.cumsum(have) - have.ravel()
    left = np.ones(len(rows), dtype=np.bool_)
    left[places[np.repeat(begins, kept.ravel()) + choose(have, kept, drawing)]] = False

    supply = np.broadcast_to(testable.supply, have.shape)
    prior = np.where(supply > 0, have if tested is None else tested, 0)
    known = prior > 0  # what the pool lacks cannot be tested
    if (lost := np.flatnonzero(~known.any(axis=1))).size:
        raise DataError(
            f"Client {client_ids[lost[0]]} has no class that the test pool has",
            got=f"classes {np.flatnonzero(have[lost[0]]).tolist()}",
            next_step="Use a larger or another test split.",
        )
    # The largest size at which every class still has its exact share.
    exact = supply * prior.sum(axis=1)[:, None] // np.where(known, prior, 1)
    fits = np.where(known, exact, np.inf).min(axis=1).astype(np.int64)
    testing = [streams.numpy("data", "own test", i) for i in client_ids]
    noise = np.stack([rng.random(num_classes) for rng in testing])
    totals = np.clip(fits, 1, share.own_test_size)
    asked = apportion_rows(prior, supply, totals=totals, noise=noise)
    shares = zip(
        _each(rows[left], sizes - held),
        _each(rows[~left], held),
        _each(testable.draw(asked, testing), asked.sum(axis=1)),
        strict=True,
    )
    for client_id, (train, val, test) in zip(client_ids, shares, strict=True):
        yield ClientData(client_id, train, val, test, shift(client_id))


def _each(rows: IntArray, sizes: IntArray) -> Iterator[IntArray]:
    """Yield so many rows after the other."""
    ends = np.cumsum(sizes).tolist()
    return (rows[first:end] for first, end in zip([0, *ends], ends, strict=False))


def tested_classes(have: IntArray, shift: float) -> npt.NDArray[np.float64]:
    """Return by which class shares each client is tested, [K, C]: its own, moved to the next one's.

    Where a client meets other classes than it was trained on, its label prior is wrong.

    Args:
        have: Samples of each class that each client has [K, C].
        shift: The share of the next client's mix in its test, 0 to 1; the last client's next is
            the first.

    >>> tested_classes(np.array([[8, 0], [0, 4]]), 0.25).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    shares = have / np.maximum(have.sum(axis=1, keepdims=True), 1)
    return np.asarray((1 - shift) * shares + shift * np.roll(shares, -1, axis=0))


def shifts_of(
    partitioner: Partitioner, num_clients: int, streams: Streams, raw: RawDataset
) -> Callable[[int], Transform | None]:
    """Return what gives each client its feature shift, tried once, or None.

    It raises a :class:`PartitionError` if a shift changes the shape of its inputs.
    """
    if not isinstance(partitioner, ShiftsFeatures):
        return lambda _: None
    seed = streams.entropy("data", "transform")

    def shift(client_id: int) -> Transform | None:
        transform = partitioner.transform(client_id, num_clients, seed)
        if transform is not None:
            shape = list(transform(probe(raw)).shape)
            if shape != list(probe(raw).shape):
                raise PartitionError(
                    f"The transform of client {client_id} changes the shape of its inputs",
                    got=shape,
                    allowed=list(probe(raw).shape),
                )
        return transform

    return shift


def probe(raw: RawDataset) -> torch.Tensor:
    """Return a fixed input [1, ...] with values 0 to 255, to see what a transform does."""
    shape = raw.train.inputs.shape[1:]
    return torch.linspace(0, 255, int(np.prod(shape))).view(1, *shape)


def check_batches(clients: Sequence[ClientData], share: Share) -> None:
    """Refuse clients that cannot fill one batch.

    Raises:
        DataError: Naming the first of them.
    """
    small = [client for client in clients if len(client.train) < share.batch_size]
    if small:
        shown = ", ".join(f"client {c.client_id} has {len(c.train)}" for c in small[:5])
        more = f" and {len(small) - 5} more have too few" if len(small) > 5 else ""
        hold = f" after val_fraction={share.val_fraction}" if share.val_fraction else ""
        raise DataError(
            "A client has fewer training samples than one batch",
            got=f"{shown}{hold}{more}",
            allowed=f"at least {share.batch_size}",
            next_step="Lower client.batch_size, num_clients or val_fraction, or use a less skewed "
            "partitioner.",
        )
