"""Data: pools of samples, the public set, who holds what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

IntArray = npt.NDArray[np.int64]
"""A one-dimensional array of sample indices."""

Transform = Callable[[Tensor], Tensor]
"""A deterministic map of raw inputs [N, channels, height, width], values 0 to 255, to the same."""


def is_text(inputs: npt.NDArray[Any]) -> bool:
    """Tell whether inputs are the numbers of texts' words, int32 [N, words]."""
    return bool(inputs.dtype == np.int32 and inputs.ndim == 2)


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled inputs that every process maps and none copies.

    Args:
        inputs: uint8 images [N, channels, height, width], float32 features [N, ...], or the numbers
            of texts' words, int32 [N, words], 0 for none (:mod:`fedfuse.data.words`).
        labels: int64 class ids [N].
    """

    inputs: npt.NDArray[Any]
    labels: IntArray

    def __len__(self) -> int:
        return len(self.labels)


class TellsInputs:
    """A data set that says what its inputs are, by those of its training pool."""

    __slots__ = ()
    train: Samples

    @property
    def is_image(self) -> bool:
        """Whether inputs are uint8 images (else float32 features, or texts)."""
        return bool(self.train.inputs.dtype == np.uint8)

    @property
    def is_text(self) -> bool:
        """Whether inputs are the numbers of texts' words."""
        return is_text(self.train.inputs)


@dataclass(frozen=True, slots=True)
class PublicSet:
    """The samples on which clients share predictions.

    Args:
        inputs: Same layout as the private inputs, [P, ...].
        labels: int64 [P], or None where nobody knows them. Only parts that declare that they
            need labels may read them.
        source: Where the samples came from, in words, for the run's record.
    """

    inputs: npt.NDArray[Any]
    labels: IntArray | None
    source: str

    def __len__(self) -> int:
        return len(self.inputs)

    def fingerprint(self) -> str:
        """Return a hash of the inputs, by which hosts check that they share the same samples."""
        inputs = np.ascontiguousarray(self.inputs)
        head = f"{inputs.dtype.str}{inputs.shape}".encode()
        return hashlib.blake2b(head + inputs.tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class ClientData:
    """What one client owns, as indices into the shared arrays.

    Args:
        client_id: 0 to K-1.
        train: Indices into the training pool that it learns from.
        val: Indices into the training pool that it holds back, disjoint from ``train``.
        test: Indices into ``FederatedData.own_pool``, drawn with the client's own class
            distribution.
        transform: Feature shift of this client's domain, applied to its train, val and own test
            inputs; None for no shift.
    """

    client_id: int
    train: IntArray
    val: IntArray
    test: IntArray
    transform: Transform | None = None


@dataclass(frozen=True, slots=True)
class FederatedData(TellsInputs):
    """Everything a simulation knows about its data.

    Args:
        name: The data set's name.
        train: The training pool; private samples of all clients are rows of it.
        test: The balanced global test set.
        public: The public set, disjoint from both.
        clients: One entry per client, in order of ``client_id``.
        num_classes: C.
        mean: Per-channel mean of the training pool on the scale 0 to 1; of a table that of each
            feature (features that are used as they are: empty).
        std: The standard deviation likewise.
        fingerprint: Hash of the data and of the split; equal for runs that may be compared.
        repaired: Samples that the partitioner moved to fill up clients that were too small.
        own_test: The pool that ``ClientData.test`` points into: the test pool that ``test`` was cut
            from, or samples that only a client's own site has; None if it is ``test``.
        kept: Rows of ``own_test`` that ``test`` was cut from, in its order; None if it was not.
        train_rows: Row of the training file of each row of ``train``; None if they are the same.
        own_test_rows: Row of the test file of each row of ``own_pool``, or of the training file
            where the data set has no test split; None if they are the same.
        common: Hash of what every host must share, where sites bring their own data; empty where
            all of it is shared.
        class_names: C names in the order of the class ids; empty where nobody gave any.
        domains: The domain of each client, [K], where the data is put together from several; else
            empty.
    """

    name: str
    train: Samples
    test: Samples
    public: PublicSet
    clients: tuple[ClientData, ...]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    repaired: int = 0
    own_test: Samples | None = None
    kept: IntArray | None = None
    train_rows: IntArray | None = None
    own_test_rows: IntArray | None = None
    common: str = ""
    class_names: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    @property
    def num_clients(self) -> int:
        """Return K."""
        return len(self.clients)

    @property
    def common_hash(self) -> str:
        """Return the hash of what every host must share."""
        return self.common or self.fingerprint

    @property
    def own_pool(self) -> Samples:
        """Return the pool that the clients' own test rows point into."""
        return self.test if self.own_test is None else self.own_test

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return tuple(self.train.inputs.shape[1:])

    def class_counts(self) -> npt.NDArray[np.int64]:
        """Return the number of training samples per client and class, [K, C]."""
        return np.stack(
            [
                np.bincount(self.train.labels[client.train], minlength=self.num_classes)
                for client in self.clients
            ]
        )
