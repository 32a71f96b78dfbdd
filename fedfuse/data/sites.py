"""Sites that bring their own data: nobody deals it out, and it never leaves where it lies.

A site is one host of a deployment, or one folder in a simulation of it. All sites obtain the same
*shared* data set: the public set and the test pool come from it, and the statistics by which
inputs are normalised. What a site owns it alone can read; so a process builds the federation from
the sites that it has, and knows of the others' clients no more than that they exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedfuse.data.by_domain import hosted
from fedfuse.data.cache import cached
from fedfuse.data.classes import check_classes, ids_among
from fedfuse.data.owned import Share, Testable, check_batches, own, shifts_of
from fedfuse.data.public import PublicSource
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.data.shared import Shared, add_array, draw_test, share
from fedfuse.data.sources.local import local
from fedfuse.data.split import warn_of_copies, warn_of_small_tests
from fedfuse.data.values import warn_of_scale
from fedfuse.declarations import declared, part_name
from fedfuse.errors import DataError, require
from fedfuse.partition.apply import deal_rows
from fedfuse.protocols import Partitioner
from fedfuse.rng import Streams
from fedfuse.types import ClientData, FederatedData, IntArray, Samples
from fedfuse.validation import require_count

NOTHING: IntArray = np.empty(0, dtype=np.int64)
NOTHING.setflags(write=False)


@dataclass(frozen=True, slots=True)
class OwnData:
    """Where the sites' own data lies.

    Args:
        paths: One per site: an ``.npz`` file, a folder of parquet files or one of class folders;
            None for a site whose data this process does not have. None altogether where each
            SuperNode names its own.
        image_size: Stretch encoded images to this height and width; None to keep their size.
    """

    paths: Sequence[str | None] | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.paths is None:
            return
        ok = not isinstance(self.paths, str) and len(self.paths) > 0
        ok = ok and all(path is None or isinstance(path, str) for path in self.paths)
        require(ok, "sites", "paths", self.paths, "a list of paths, such as [a.npz,b.npz]")

    def open(self, num_clients: int) -> list[Site]:
        """Return the sites whose data is here, each with its clients.

        Raises:
            DataError: If there are more sites than clients, or data cannot be read.
        """
        paths = self.paths or ()
        if len(paths) > num_clients:
            raise DataError(
                "There are more sites than clients",
                got=f"{len(paths)} sites, num_clients={num_clients}",
                next_step=f"Set num_clients={len(paths)}, or a multiple of it.",
            )
        return [
            Site(local(path, self.image_size), hosted(index, len(paths), num_clients))
            for index, path in enumerate(paths)
            if path is not None
        ]


@dataclass(frozen=True, slots=True)
class Site:
    """One site's own data and the clients that share it.

    Args:
        raw: All that it has.
        client_ids: Its clients.
    """

    raw: RawDataset
    client_ids: tuple[int, ...]


def federate_sites(
    raw: RawDataset,
    sites: Sequence[Site],
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
    """Return the data of a federation whose sites bring their own.

    A client's own test samples are its site's: of the site's test split, or else a share of its
    samples that is held out. A site with one client gives it all; one with several deals its own
    samples out to them.

    Args:
        raw: The shared data set, of which nothing becomes private.
        sites: Those whose data is here, none at a server.
        partitioner: Deals a site's samples out to its clients, if it has several.
        num_clients: K, over all sites.
        public: Where the public set comes from.
        seed: Of every draw made here; a site's draws depend on no other site.
        batch_size: The batch size of training.
        val_fraction: Share of each client's samples that it holds back.
        test_fraction: Share of a pool that becomes test samples where there is no test split.
        max_test_samples: Largest size of the common test pool.
        own_test_size: Largest number of a client's own test samples.

    Raises:
        ParameterError: If a number is out of its range.
        DataError: If a site's data does not fit the shared data set, or is too small.
        PartitionError: If the partitioner breaks its promise.
    """
    require_count("the data split", "num_clients", num_clients)
    check_classes(raw, all_present=False)
    warn_of_scale(raw)
    use, streams = Share(val_fraction, own_test_size, batch_size), Streams(seed)
    common = share(raw, public, streams, test_fraction, max_test_samples)
    for site in sites:
        check_fits(site.raw, raw)
    _check_deals(partitioner, sites, num_clients)
    pool, held = _pool(raw, sites, test_fraction, streams)
    clients = [ClientData(i, NOTHING, NOTHING, NOTHING) for i in range(num_clients)]
    moved, begin = 0, 0
    described = _described(raw, pool) if sites else raw
    all_labels = np.asarray(described.train.labels)
    shift = shifts_of(partitioner, num_clients, streams, raw)
    for site, test_rows in zip(sites, held, strict=True):
        end = begin + len(site.raw.train)
        labels, kept_back = pool.labels[begin:end], test_rows[test_rows < end] - begin
        parts, repaired = _deal(partitioner, labels, kept_back, site.client_ids, streams)
        moved += repaired
        testable = Testable(pool.labels, test_rows, test_rows, described.num_classes)
        rows = [begin + part for part in parts]
        for client in own(site.client_ids, rows, all_labels, testable, use, streams, shift):
            clients[client.client_id] = client
        begin = end + (0 if site.raw.test is None else len(site.raw.test))
    check_batches([client for client in clients if len(client.val) + len(client.train)], use)
    data = FederatedData(
        name=raw.name,
        train=pool,
        test=common.test,
        public=common.public,
        clients=tuple(clients),
        num_classes=raw.num_classes,
        mean=common.mean,
        std=common.std,
        fingerprint=_fingerprint(raw, common, sites, clients),
        repaired=moved,
        own_test=pool,
        train_rows=(file_rows := _file_rows(sites)),
        own_test_rows=file_rows,
        common=common.fingerprint(raw),
        class_names=raw.class_names,
    )
    if sites:
        warn_of_copies(data)
        warn_of_small_tests(data)
    return data


def _described(raw: RawDataset, pool: Samples) -> RawDataset:
    """Return the sites' samples described by the shared data set's classes and statistics."""
    return RawDataset(
        raw.name, pool, None, raw.num_classes, raw.class_names, raw.mean, raw.std, raw.fingerprint
    )


def _pool(
    raw: RawDataset, sites: Sequence[Site], test_fraction: float, streams: Streams
) -> tuple[Samples, list[IntArray]]:
    """Return all sites' samples as one pool, with the shared class ids, and its test rows by site.

    One site without a test split stays where it is mapped; else the joined pool goes through the
    cache, so that every process of a run maps the same pages.
    """
    held, labels, begin = [], [], 0
    for site in sites:
        own_raw, train = site.raw, len(site.raw.train)
        if own_raw.test is None:
            rng = streams.numpy("data", "test pool", "site", site.client_ids[0])
            held.append(begin + draw_test(own_raw, test_fraction, rng))
        else:
            held.append(begin + np.arange(train, train + len(own_raw.test)))
        who = f"A site's data ({own_raw.name}) has classes that"
        ids = ids_among(own_raw, raw, f"{who} the shared data set {raw.name} has not")
        pools = [own_raw.train] if own_raw.test is None else [own_raw.train, own_raw.test]
        labels += [ids[pool.labels] for pool in pools]
        begin += sum(map(len, pools))
    joined = np.concatenate([NOTHING, *labels])
    joined.setflags(write=False)
    if not sites:
        return Samples(
            np.empty((0, *raw.train.inputs.shape[1:]), raw.train.inputs.dtype), joined
        ), []
    if len(sites) == 1 and sites[0].raw.test is None:
        return Samples(sites[0].raw.train.inputs, joined), held

    def join() -> Decoded:
        pools = [p for site in sites for p in (site.raw.train, site.raw.test) if p is not None]
        inputs = np.concatenate([pool.inputs for pool in pools])
        return Decoded(Samples(inputs, joined), None, raw.class_names)

    digest = hashlib.blake2b("".join(site.raw.fingerprint for site in sites).encode())
    add_array(digest, joined)
    return cached("sites", digest.hexdigest()[:32], join).train, held


def _file_rows(sites: Sequence[Site]) -> IntArray:
    """Return for each row of the joined pool its row of the site's training or test file."""
    pools = [p for site in sites for p in (site.raw.train, site.raw.test) if p is not None]
    return np.concatenate([NOTHING, *(np.arange(len(pool)) for pool in pools)])


def _deal(
    partitioner: Partitioner,
    labels: IntArray,
    held: IntArray,
    client_ids: Sequence[int],
    streams: Streams,
) -> tuple[list[IntArray], int]:
    """Return each client's rows of its site's training file, and how many a repair moved.

    Args:
        partitioner: Deals, where the site has several clients.
        labels: Of the site's training file.
        held: Its rows that are test samples.
        client_ids: The site's clients.
        streams: The run's random streams.
    """
    rows = np.setdiff1d(np.arange(len(labels)), held)
    if len(client_ids) == 1 and not declared(partitioner, "deals_rows", False):
        return [rows], 0
    rng = streams.numpy("data", "partition", "site", client_ids[0])
    return deal_rows(partitioner, labels, rows, len(client_ids), rng, {"test": held})


def _check_deals(partitioner: Partitioner, sites: Sequence[Site], num_clients: int) -> None:
    """Refuse rows of one training file where several sites have one each."""
    several = any(len(site.client_ids) < num_clients for site in sites)
    if several and declared(partitioner, "deals_rows", False):
        raise DataError(
            "A partition by rows of the training file does not say which site's file it means",
            got=f"{part_name(partitioner)} with several sites that have a file each",
            next_step="Choose another partitioner, which deals each site's own samples, or name "
            "the data of every client in sites.paths.",
        )


def check_fits(site: RawDataset, raw: RawDataset) -> None:
    """Refuse a site whose inputs are not laid out as the shared ones."""
    theirs, ours = ((r.train.inputs.dtype.name, r.train.inputs.shape[1:]) for r in (site, raw))
    if theirs != ours:
        raise DataError(
            f"A site's data ({site.name}) is not laid out as the shared data set {raw.name}",
            got=f"{theirs[0]} {list(theirs[1])}",
            allowed=f"{ours[0]} {list(ours[1])}",
            next_step="Set sites.image_size, or convert the site's data.",
        )


def _fingerprint(
    raw: RawDataset, common: Shared, sites: Sequence[Site], clients: Sequence[ClientData]
) -> str:
    """Return a hash of what is shared and of the sites that are here."""
    digest = hashlib.blake2b(common.fingerprint(raw).encode(), digest_size=16)
    for site in sites:
        digest.update(site.raw.fingerprint.encode())
        for client in (clients[i] for i in site.client_ids):
            for array in (client.train, client.val, client.test):
                add_array(digest, array)
    return digest.hexdigest()
