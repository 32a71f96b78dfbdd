"""From one data set to a federation: test pool, public set, and what each client owns."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from fedfuse.compare.outcomes import ENOUGH
from fedfuse.data.by_domain import blocks, deal_blocks, test_rows, train_rows
from fedfuse.data.classes import check_classes
from fedfuse.data.duplicates import count_duplicates
from fedfuse.data.owned import (
    Share,
    Testable,
    check_batches,
    own,
    probe,
    shifts_of,
    tested_classes,
)
from fedfuse.data.public import PublicSource
from fedfuse.data.raw import RawDataset
from fedfuse.data.shared import Shared, add_array, share
from fedfuse.data.values import warn_of_scale
from fedfuse.errors import DataError, DataWarning
from fedfuse.protocols import Partitioner
from fedfuse.rng import Streams
from fedfuse.types import ClientData, FederatedData
from fedfuse.validation import require_count, require_number


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
    own_test_shift: float = 0.0,
) -> FederatedData:
    """Return the data of a federation: disjoint private, public and test samples.

    In this order: the test pool (the data set's own test split, else a stratified share of the
    training pool), the public set, and the partition of what remains. Each draw has a random
    stream of its own. All clients are tested on a class-balanced part of the test pool (all of it
    if it is nearly so already), and each on samples of the whole pool that have its own class
    distribution. Exact copies between the three parts are counted and warned about.

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
        max_test_samples: Largest size of the balanced test set; None for no limit. Every client is
            tested on it after both phases of every round, so testing on 10,000 samples costs more
            than training on 500.
        own_test_size: Largest number of test samples with a client's own class distribution.
        own_test_shift: The share, 0 to 1, of another client's class distribution in these: above 0
            clients are tested on other classes than they have.

    Raises:
        ParameterError: If a number is out of its range.
        DataError: If the data is too small for what is asked of it.
        PartitionError: If the partitioner breaks its promise.
    """
    require_count("the data split", "num_clients", num_clients)
    require_number("the data split", "own_test_shift", own_test_shift, at_least=0, at_most=1)
    check_classes(raw)
    warn_of_scale(raw)
    use, streams = Share(val_fraction, own_test_size, batch_size), Streams(seed)
    common = share(raw, public, streams, test_fraction, max_test_samples)
    private = common.private
    if num_clients > len(private):
        raise DataError(
            "There are more clients than private samples",
            got=f"num_clients={num_clients}",
            allowed=f"at most {len(private)}, what {raw.name} leaves beside public and test data",
            next_step="Lower num_clients or public.size.",
        )
    domains = blocks(raw, common, num_clients)
    parts, moved = deal_blocks(partitioner, domains, raw.train.labels, common, streams)
    tested = None
    if own_test_shift:
        have = [np.bincount(raw.train.labels[part], minlength=raw.num_classes) for part in parts]
        tested = tested_classes(np.stack(have), own_test_shift)
    shift = shifts_of(partitioner, num_clients, streams, raw)
    labels = np.asarray(raw.train.labels)  # indexing a mapped file costs three times as much
    clients: tuple[ClientData, ...] = ()
    for domain in domains:
        ids = domain.client_ids
        first = np.intersect1d(common.kept, domain.tests, assume_unique=True)
        testable = Testable(common.pool.labels, domain.tests, first, raw.num_classes)
        theirs = parts[ids[0] : ids[-1] + 1]
        mixes = None if tested is None else tested[ids[0] : ids[-1] + 1]
        clients += tuple(own(ids, theirs, labels, testable, use, streams, shift, mixes))
    check_batches(clients, use)
    cut = common.test is not common.pool
    data = FederatedData(
        name=raw.name,
        train=raw.train,
        test=common.test,
        public=common.public,
        clients=clients,
        num_classes=raw.num_classes,
        mean=common.mean,
        std=common.std,
        fingerprint=fingerprint(raw, common, clients),
        repaired=moved,
        own_test=common.pool if cut else None,
        kept=common.kept if cut else None,
        train_rows=(file_rows := train_rows(raw)),
        own_test_rows=test_rows(raw, common, file_rows),
        class_names=raw.class_names,
        domains=tuple(part.name for part in domains for _ in part.client_ids if part.name),
    )
    _check_disjoint(data, common)
    warn_of_copies(data)
    warn_of_small_tests(data)
    return data


def fingerprint(raw: RawDataset, common: Shared, clients: Sequence[ClientData]) -> str:
    """Return a hash of the data, all indices and what each feature shift does to a fixed input."""
    digest = hashlib.blake2b(raw.fingerprint.encode(), digest_size=16)
    for array in (common.held, common.kept, common.taken, common.public.inputs):
        add_array(digest, array)
    for client in clients:
        for array in (client.train, client.val, client.test):
            add_array(digest, array)
        if client.transform is not None:
            add_array(digest, client.transform(probe(raw)).round().to(torch.int32).numpy())
    return digest.hexdigest()


def warn_of_copies(data: FederatedData) -> None:
    """Count the exact copies between private, public and test samples, and warn about them."""
    copies = {name: count for name, count in count_duplicates(data).items() if count}
    if copies:
        words = ", ".join(f"{name.replace('_', ' ')}: {n}" for name, n in copies.items())
        warnings.warn(
            f"{data.name} has exact copies across its parts ({words}).", DataWarning, stacklevel=3
        )


def warn_of_small_tests(data: FederatedData) -> None:
    """Warn about tests that hold too few samples for a verdict."""
    told = []
    if len(data.test) < ENOUGH:
        classes = np.unique(data.test.labels)
        told.append(
            f"the balanced test set holds {len(data.test)} samples "
            f"({len(data.test) // len(classes)} of each of {len(classes)} classes)"
        )
    sizes = {client.client_id: len(client.test) for client in data.clients if len(client.test)}
    small = [client for client, size in sizes.items() if size < ENOUGH]
    if small:
        held = sorted(sizes[client] for client in small)
        which = f"client {small[0]} has" if len(small) == 1 else f"{len(small)} clients have"
        size = f"{held[0]}" if held[0] == held[-1] else f"{held[0]} to {held[-1]}"
        told.append(f"{which} own tests of {size} samples")
    if told:
        warnings.warn(
            f"{data.name}: {' and '.join(told)}. Fewer than {ENOUGH} say nothing: there will be "
            "no verdict on them. Bring a larger test split, or raise test_fraction, "
            "evaluation.test_samples or evaluation.own_test_samples.",
            DataWarning,
            stacklevel=3,
        )


def _check_disjoint(data: FederatedData, common: Shared) -> None:
    """Prove what the order of the draws promises."""
    owned = [part for client in data.clients for part in (client.train, client.val)]
    joined = np.concatenate([common.held, common.taken, *owned])
    if np.bincount(joined).max(initial=0) > 1:
        raise DataError("Private, public and test samples overlap; this is a mistake in fedfuse")
