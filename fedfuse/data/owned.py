"""What one client owns: its training, validation and own test rows, and its feature shift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedfuse.data.draw import apportion, by_class, draw_by_class, draw_each
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
    def _first(self) -> list[IntArray]:
        return by_class(self.labels, self.first, self.num_classes)

    @cached_property
    def _rest(self) -> list[IntArray]:
        rest = np.setdiff1d(self.rows, self.first)
        return by_class(self.labels, rest, self.num_classes)

    def draw(self, counts: IntArray, rng: np.random.Generator) -> IntArray:
        """Return sorted rows, ``counts[c]`` of each class."""
        early = np.minimum(counts, [len(pool) for pool in self._first])
        drawn = draw_each(self._first, early, rng)
        if (early == counts).all():
            return drawn
        return np.union1d(drawn, draw_each(self._rest, counts - early, rng))


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


def own(
    client_id: int,
    owned: IntArray,
    labels: IntArray,
    testable: Testable,
    share: Share,
    streams: Streams,
    transform: Transform | None,
    tested: npt.NDArray[Any] | None = None,
) -> ClientData:
    """Return one client's train, validation and own test rows.

    Args:
        client_id: The client.
        owned: Its rows of the training file, ascending.
        labels: Of that file.
        testable: What its own test samples are drawn from.
        share: How its samples are used.
        streams: The run's random streams.
        transform: Its feature shift.
        tested: Class shares [C], in any unit, of what it is tested on; its own samples' if None.

    Raises:
        DataError: If there is nothing to test it on.
    """
    have = np.bincount(labels[owned], minlength=testable.num_classes)
    rng = streams.numpy("data", "val", client_id)
    num_val = 0
    if share.val_fraction and len(owned) > 1:
        num_val = min(max(1, round(share.val_fraction * len(owned))), len(owned) - 1)
    val = draw_by_class(labels, owned, apportion(have, num_val, have, rng), rng)

    supply, asked = testable.supply, have if tested is None else tested
    prior = np.where(supply > 0, asked, 0)  # what the pool lacks cannot be tested
    known = prior > 0
    if not known.any():
        raise DataError(
            f"Client {client_id} has no class that the test pool has",
            got=f"classes {np.flatnonzero(have).tolist()}",
            next_step="Use a larger or another test split.",
        )
    # The largest size at which every class still has its exact share.
    fits = int((supply[known] * prior.sum() // prior[known]).min())
    rng = streams.numpy("data", "own test", client_id)
    counts = apportion(prior, max(1, min(share.own_test_size, fits)), supply, rng)
    left = np.ones(len(owned), dtype=np.bool_)
    left[np.searchsorted(owned, val)] = False
    return ClientData(client_id, owned[left], val, testable.draw(counts, rng), transform)


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
