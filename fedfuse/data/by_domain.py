"""Whose rows are whose where a data set is put together from domains; else all are everybody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedfuse.data.raw import RawDataset
from fedfuse.data.shared import Shared, tested_domains
from fedfuse.declarations import declared, part_name
from fedfuse.errors import DataError
from fedfuse.partition.apply import deal_rows
from fedfuse.protocols import Partitioner
from fedfuse.rng import Streams
from fedfuse.types import IntArray


@dataclass(frozen=True, slots=True)
class Block:
    """A domain, its clients and its rows.

    Args:
        name: The domain's; empty where there are none.
        client_ids: Its clients.
        begin: Its first row in the training pool.
        end: The row after its last.
        tests: Its rows in the test pool.
    """

    name: str
    client_ids: tuple[int, ...]
    begin: int
    end: int
    tests: IntArray


def hosted(index: int, count: int, num_clients: int) -> tuple[int, ...]:
    """Return the clients of domain, site or node ``index`` of ``count``: an even share, in blocks.

    >>> [hosted(node, 2, 5) for node in range(2)]
    [(0, 1), (2, 3, 4)]
    """
    borders = np.linspace(0, num_clients, count + 1).astype(int)
    return tuple(range(borders[index], borders[index + 1]))


def blocks(raw: RawDataset, common: Shared, num_clients: int) -> list[Block]:
    """Return the domains of a data set with their clients, or all of it as one block.

    Raises:
        DataError: If there are more domains than clients.
    """
    every = np.arange(len(common.pool))
    count = len(raw.domains)
    if not count:
        return [Block("", tuple(range(num_clients)), 0, len(raw.train), every)]
    if count > num_clients:
        raise DataError(
            "There are more domains than clients",
            got=f"{count} domains, num_clients={num_clients}",
            next_step=f"Set num_clients={count}, or a multiple of it.",
        )
    begins = np.cumsum([0, *(domain.train for domain in raw.domains)])
    whose = tested_domains(raw, common.held)
    return [
        Block(
            domain.name,
            hosted(number, count, num_clients),
            int(begins[number]),
            int(begins[number + 1]),
            every[whose == number],
        )
        for number, domain in enumerate(raw.domains)
    ]


def deal_blocks(
    partitioner: Partitioner,
    parts: Sequence[Block],
    labels: IntArray,
    common: Shared,
    streams: Streams,
) -> tuple[list[IntArray], int]:
    """Return each client's rows of the training pool, ascending, and what a repair moved.

    The partitioner deals each domain's own rows to its clients; one alone has them all.

    Args:
        partitioner: Deals.
        parts: The domains.
        labels: Of the training pool [N].
        common: What the test pool and the public set have taken.
        streams: The run's random streams.

    Raises:
        DataError: If it names rows of a file where each domain has one.
        PartitionError: If it breaks its promise.
    """
    if len(parts) > 1 and declared(partitioner, "deals_rows", False):
        raise DataError(
            "A partition by rows of the training file does not say which domain's file it means",
            got=f"{part_name(partitioner)} with {len(parts)} domains that have a file each",
            next_step="Choose another partitioner, which deals each domain's own samples.",
        )
    dealt: list[IntArray] = []
    total = 0
    for number, part in enumerate(parts):
        rows, held, taken = (
            each[(each >= part.begin) & (each < part.end)] - part.begin
            for each in (common.private, common.held, common.taken)
        )
        if len(parts) > 1 and len(part.client_ids) == 1:
            dealt.append(part.begin + rows)
            continue
        stream = ("domain", number) if len(parts) > 1 else ()
        rng = streams.numpy("data", "partition", *stream)
        reserved = {"test": held, "public": taken}
        own = labels[part.begin : part.end]
        found, moved = deal_rows(partitioner, own, rows, len(part.client_ids), rng, reserved)
        dealt += [part.begin + each for each in found]
        total += moved
    return dealt, total


def train_rows(raw: RawDataset) -> IntArray | None:
    """Return for each training row its row of its domain's file; None without domains."""
    if not raw.domains:
        return None
    return np.concatenate([np.arange(domain.train) for domain in raw.domains])


def test_rows(raw: RawDataset, common: Shared, of_train: IntArray | None) -> IntArray | None:
    """Return for each row of the test pool its row of the file it is from; None if they are alike.

    Args:
        raw: The data set.
        common: What of the training pool became test samples.
        of_train: What :func:`train_rows` returned.
    """
    if of_train is None:
        return common.held if raw.test is None else None
    splits = [np.arange(domain.test) for domain in raw.domains]
    return np.concatenate([*splits, of_train[common.held]])
