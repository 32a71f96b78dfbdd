"""From one data set to a federation: test pool, public set, and what each client owns."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import torch

from fedfuse.data.draw import apportion, draw_by_class
from fedfuse.data.duplicates import count_duplicates
from fedfuse.data.public import PublicSource
from fedfuse.data.raw import DataWarning, RawDataset, channel_statistics
from fedfuse.errors import DataError, PartitionError, require
from fedfuse.partition.apply import apply_partitioner
from fedfuse.protocols import Partitioner, ShiftsFeatures
from fedfuse.rng import Streams
from fedfuse.types import ClientData, FederatedData, IntArray, PublicSet, Samples, Transform

BALANCED_WITHIN = 1.5
"""A test pool counts as balanced if its largest class is at most this much larger than its
smallest; the published test splits of MNIST (1.27) and its kin then stay whole."""


def federate(
    raw: RawDataset,
    *,
    partitioner: Partitioner,
    num_clients: int,
    public: PublicSource,
    seed: int,
    batch_size: int = 1,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    max_test_samples: int | None = None,
    own_test_size: int = 1000,
) -> FederatedData:
    """Return the data of a federation: disjoint private, public and test samples.

    In this order: the test pool (the data set's own test split, else a stratified share of the
    training pool), the public set, and the partition of what remains. Each draw has a random
    stream of its own. The test pool is cut to a class-balanced one if it is not nearly so
    already. Exact copies between the three parts are counted and warned about.

    Args:
        raw: The data set.
        partitioner: Deals the private samples out; with a ``transform`` method also the feature
            shift of each client.
        num_clients: K.
        public: Where the public set comes from.
        seed: Of every draw made here.
        batch_size: The batch size of training; each client must fill at least one batch.
        val_fraction: Share of each client's samples that it holds back, stratified; above 0 at
            least one sample, at 0 none.
        test_fraction: Share of the training pool that becomes the test pool of a data set
            without a test split.
        max_test_samples: Largest size of the test pool, drawn balanced; None keeps all of it. Every
            client is tested on the pool after both phases of every round, so testing on 10,000
            samples costs more than training on 500.
        own_test_size: Largest number of test samples with a client's own class distribution. A
            client gets fewer where the test pool lacks a class that it has much of: the
            proportions are kept, not the number.

    Raises:
        ParameterError: If a number is out of its range.
        DataError: If the data is too small for what is asked of it.
        PartitionError: If the partitioner breaks its promise.
    """
    _check_parameters(num_clients, batch_size, val_fraction, test_fraction, own_test_size)
    if max_test_samples is not None:
        ok = type(max_test_samples) is int and max_test_samples >= 1
        require(ok, "the data split", "max_test_samples", max_test_samples, "an integer from 1")
    streams = Streams(seed)
    available = np.arange(len(raw.train))
    mean, std = raw.mean, raw.std
    if raw.test is None:
        held = _draw_test(raw, test_fraction, streams.numpy("data", "test pool"))
        available = np.setdiff1d(available, held)
        pool = _rows(raw.train, held)
        if raw.is_image:  # the statistics must not know the test samples
            mean, std = channel_statistics(raw.train.inputs, available)
    else:
        held, pool = np.empty(0, dtype=np.int64), raw.test
    test, kept = _balance(
        pool, raw.num_classes, max_test_samples, streams.numpy("data", "balanced test")
    )
    public_set, taken = public(raw, available, streams.numpy("data", "public"))
    _check_public(raw, public_set, taken, available)
    private = np.setdiff1d(available, taken)
    if num_clients > len(private):
        raise DataError(
            "There are more clients than private samples",
            got=f"num_clients={num_clients}",
            allowed=f"at most {len(private)}, what {raw.name} leaves beside public and test data",
            next_step="Lower num_clients or public.size.",
        )
    labels = np.array(raw.train.labels[private])
    rng = streams.numpy("data", "partition")
    parts, moved = apply_partitioner(partitioner, labels, num_clients, rng)
    clients = tuple(
        _client(
            client_id,
            np.sort(private[part]),
            raw,
            test,
            streams,
            val_fraction,
            own_test_size,
            _transform(partitioner, client_id, num_clients, streams, raw),
        )
        for client_id, part in enumerate(parts)
    )
    _check_batches(clients, batch_size, val_fraction)
    data = FederatedData(
        name=raw.name,
        train=raw.train,
        test=test,
        public=public_set,
        clients=clients,
        num_classes=raw.num_classes,
        mean=mean,
        std=std,
        fingerprint=_fingerprint(raw, held, kept, taken, public_set, clients),
        repaired=moved,
    )
    _check_disjoint(data, held, taken)
    return data


def _check_parameters(
    num_clients: int, batch_size: int, val_fraction: float, test_fraction: float, own: int
) -> None:
    counts = {"num_clients": num_clients, "batch_size": batch_size, "own_test_size": own}
    for name, count in counts.items():
        ok = type(count) is int and count >= 1
        require(ok, "the data split", name, count, "an integer of at least 1")
    ok = type(val_fraction) in (int, float) and 0 <= val_fraction < 1
    require(ok, "the data split", "val_fraction", val_fraction, "a number from 0 to below 1")
    ok = type(test_fraction) is float and 0 < test_fraction < 1
    require(ok, "the data split", "test_fraction", test_fraction, "a number above 0 and below 1")


def _draw_test(raw: RawDataset, fraction: float, rng: np.random.Generator) -> IntArray:
    """Return the rows of the training pool that become the test pool, stratified."""
    supply = np.bincount(raw.train.labels, minlength=raw.num_classes)
    counts = apportion(supply, max(1, round(fraction * len(raw.train))), supply, rng)
    return draw_by_class(raw.train.labels, np.arange(len(raw.train)), counts, rng)


def _balance(
    pool: Samples, num_classes: int, limit: int | None, rng: np.random.Generator
) -> tuple[Samples, IntArray]:
    """Return the pool, cut to equal counts per class if it is not balanced or above ``limit``.

    Classes that the pool does not have at all stay missing, with a warning.
    """
    every = np.arange(len(pool))
    supply = np.bincount(pool.labels, minlength=num_classes)
    smallest = int(supply[supply > 0].min())
    if missing := np.flatnonzero(supply == 0).tolist():
        warnings.warn(
            f"The test pool has no samples of the classes {missing}; they are not tested.",
            DataWarning,
            stacklevel=3,
        )
    fits = limit is None or len(pool) <= limit
    if fits and supply.max() <= BALANCED_WITHIN * smallest:
        return pool, every
    if limit is not None:
        smallest = min(smallest, max(1, limit // int((supply > 0).sum())))
    kept = draw_by_class(pool.labels, every, np.minimum(supply, smallest), rng)
    return _rows(pool, kept), kept


def _client(
    client_id: int,
    owned: IntArray,
    raw: RawDataset,
    test: Samples,
    streams: Streams,
    val_fraction: float,
    own_test_size: int,
    transform: Transform | None,
) -> ClientData:
    """Return one client's train, validation and own test rows."""
    labels = raw.train.labels
    have = np.bincount(labels[owned], minlength=raw.num_classes)
    rng = streams.numpy("data", "val", client_id)
    num_val = 0
    if val_fraction and len(owned) > 1:
        num_val = min(max(1, round(val_fraction * len(owned))), len(owned) - 1)
    val = draw_by_class(labels, owned, apportion(have, num_val, have, rng), rng)

    supply = np.bincount(test.labels, minlength=raw.num_classes)
    prior = np.where(supply > 0, have, 0)  # what the pool lacks cannot be tested
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
    counts = apportion(prior, max(1, min(own_test_size, fits)), supply, rng)
    own = draw_by_class(test.labels, np.arange(len(test)), counts, rng)
    return ClientData(client_id, np.setdiff1d(owned, val), val, own, transform)


def _transform(
    partitioner: Partitioner, client_id: int, num_clients: int, streams: Streams, raw: RawDataset
) -> Transform | None:
    """Return the client's feature shift, tried once, or None."""
    if not isinstance(partitioner, ShiftsFeatures):
        return None
    seed = streams.entropy("data", "transform")
    transform = partitioner.transform(client_id, num_clients, seed)
    if transform is not None:
        probe = _probe(raw)
        shape = list(transform(probe).shape)
        if shape != list(probe.shape):
            raise PartitionError(
                f"The transform of client {client_id} changes the shape of its inputs",
                got=shape,
                allowed=list(probe.shape),
            )
    return transform


def _probe(raw: RawDataset) -> torch.Tensor:
    """Return a fixed input [1, ...] with values 0 to 255, to see what a transform does."""
    shape = raw.train.inputs.shape[1:]
    return torch.linspace(0, 255, int(np.prod(shape))).view(1, *shape)


def _rows(samples: Samples, index: IntArray) -> Samples:
    inputs, labels = samples.inputs[index], np.array(samples.labels[index])
    inputs.setflags(write=False)
    labels.setflags(write=False)
    return Samples(inputs, labels)


def _check_public(raw: RawDataset, public: PublicSet, taken: IntArray, available: IntArray) -> None:
    layout = raw.train.inputs.dtype, raw.train.inputs.shape[1:]
    if not len(public) or (public.inputs.dtype, public.inputs.shape[1:]) != layout:
        raise DataError(
            "The public set does not have the layout of the private data",
            got=f"{public.inputs.dtype.name} {list(public.inputs.shape)}",
            allowed=f"{layout[0].name} [P, {', '.join(map(str, layout[1]))}]",
        )
    if len(np.unique(taken)) != len(taken) or not np.isin(taken, available).all():
        raise DataError("The public set took rows twice, or rows that were not available to it")


def _check_batches(clients: tuple[ClientData, ...], batch_size: int, val_fraction: float) -> None:
    small = [client for client in clients if len(client.train) < batch_size]
    if small:
        shown = ", ".join(f"client {c.client_id} has {len(c.train)}" for c in small[:5])
        more = f" and {len(small) - 5} more have too few" if len(small) > 5 else ""
        hold = f" after val_fraction={val_fraction}" if val_fraction else ""
        raise DataError(
            "A client has fewer training samples than one batch",
            got=f"{shown}{hold}{more}",
            allowed=f"at least {batch_size}",
            next_step="Lower batch_size, num_clients or val_fraction, or use a less skewed "
            "partitioner.",
        )


def _check_disjoint(data: FederatedData, held: IntArray, taken: IntArray) -> None:
    """Prove what the order of the draws promises; warn about equal content."""
    owned = [part for client in data.clients for part in (client.train, client.val)]
    joined = np.concatenate([held, taken, *owned])
    if len(np.unique(joined)) != len(joined):
        raise DataError("Private, public and test samples overlap; this is a mistake in fedfuse")
    copies = {name: count for name, count in count_duplicates(data).items() if count}
    if copies:
        words = ", ".join(f"{name.replace('_', ' ')}: {n}" for name, n in copies.items())
        warnings.warn(
            f"{data.name} has exact copies across its parts ({words}).", DataWarning, stacklevel=3
        )


def _fingerprint(
    raw: RawDataset,
    held: IntArray,
    kept: IntArray,
    taken: IntArray,
    public: PublicSet,
    clients: tuple[ClientData, ...],
) -> str:
    """Return a hash of the data, all indices and what each feature shift does to a fixed input."""
    digest = hashlib.blake2b(raw.fingerprint.encode(), digest_size=16)

    def add(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())

    for array in (held, kept, taken, public.inputs):
        add(array)
    for client in clients:
        for array in (client.train, client.val, client.test):
            add(array)
        if client.transform is not None:
            add(client.transform(_probe(raw)).round().to(torch.int32).numpy())
    return digest.hexdigest()
