"""Run a partitioner, check what it returned and keep the record of its repairs."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

import numpy as np

from fedfuse.declarations import declared, part_name
from fedfuse.errors import DataWarning, PartitionError
from fedfuse.partition.check import validate_partition
from fedfuse.partition.repair import RepairWarning
from fedfuse.protocols import Partitioner
from fedfuse.types import IntArray
from fedfuse.user_code import call, is_foreign


def apply_partitioner(
    partitioner: Partitioner, labels: IntArray, num_clients: int, rng: np.random.Generator
) -> tuple[list[IntArray], int]:
    """Return the checked parts and the number of samples that a repair moved.

    A repair is reported as a :class:`RepairWarning`, so that a partitioner stays a plain
    function; here those warnings become a number. Other warnings pass through.

    Raises:
        PartitionError: If the partition breaks a promise (:func:`validate_partition`), or the
            partitioner cannot deal out these labels.

    >>> from fedfuse.partition.iid import Iid
    >>> parts, moved = apply_partitioner(Iid(), np.zeros(6, int), 2, np.random.default_rng(0))
    >>> [len(part) for part in parts], moved
    ([3, 3], 0)
    """
    foreign = is_foreign(partitioner)
    again = copy.deepcopy(rng) if foreign else rng
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RepairWarning)
        parts = validate_partition(
            _asked(partitioner, labels, num_clients, rng), len(labels), num_clients
        )
    if foreign:
        _check_repeats(partitioner, labels, num_clients, again, parts)
    moved = 0
    for record in caught:
        if isinstance(record.message, RepairWarning):
            moved += record.message.moved
        else:
            warnings.warn_explicit(
                record.message,
                record.category,
                record.filename,
                record.lineno,
                source=record.source,
            )
    return parts, moved


def deal_rows(
    partitioner: Partitioner,
    labels: IntArray,
    rows: IntArray,
    num_clients: int,
    rng: np.random.Generator,
    reserved: Mapping[str, IntArray],
) -> tuple[list[IntArray], int]:
    """Return each client's rows of the training file, ascending, and what a repair moved.

    A partitioner is given the labels of the rows that may be dealt and returns positions among
    them. One that declares ``deals_rows = True`` knows the file: it is given the labels of all of
    it and returns rows of it. Of those the reserved ones are left out, with a warning.

    Args:
        partitioner: Deals.
        labels: Of the whole training file [N].
        rows: Which of them may be dealt.
        num_clients: K.
        rng: The stream for this draw.
        reserved: The other rows, by what they are used for.

    Raises:
        PartitionError: As :func:`apply_partitioner`, or if nothing is left to a client.

    >>> def sites(labels, num_clients, rng):
    ...     return [[0, 3], [1]]
    >>> sites.deals_rows = True
    >>> spare = {"test": np.array([2])}
    >>> deal_rows(sites, np.zeros(4, int), np.array([0, 1, 3]), 2, None, spare)
    ([array([0, 3]), array([1])], 0)
    """
    if not declared(partitioner, "deals_rows", False):
        parts, moved = apply_partitioner(partitioner, np.array(labels[rows]), num_clients, rng)
        return [np.sort(rows[part]) for part in parts], moved
    named, moved = apply_partitioner(partitioner, np.array(labels), num_clients, rng)
    kept = [np.intersect1d(part, rows) for part in named]
    total = sum(map(len, named))
    left_out = total - sum(map(len, kept))
    why = {use: int(np.isin(np.concatenate(named), taken).sum()) for use, taken in reserved.items()}
    told = " and ".join(f"{count} {use}" for use, count in why.items() if count)
    if empty := [client for client, part in enumerate(kept) if not len(part)]:
        raise PartitionError(
            f"Every row of client {empty[0]} is a test or public sample of this run",
            got=f"{len(named[empty[0]])} rows; of all clients' {total} rows {told} samples",
            allowed="at least one row per client that is neither",
            next_step="Lower public.size, bring a test split, or use public=external.",
        )
    if left_out:
        warnings.warn(
            f"{part_name(partitioner)}: of the {total} rows that the partition names, {left_out} "
            f"are left out, because this run uses them as {told} samples.",
            DataWarning,
            stacklevel=3,
        )
    return kept, moved


def _asked(
    partitioner: Partitioner, labels: IntArray, num_clients: int, rng: np.random.Generator
) -> object:
    """Return what the partitioner returns; what an author's raises shows the author's frames."""
    given = {"labels": labels, "num_clients": num_clients, "rng": rng}
    return call(f"The partitioner {part_name(partitioner)}", partitioner, given)


def _check_repeats(
    partitioner: Partitioner,
    labels: IntArray,
    num_clients: int,
    rng: np.random.Generator,
    parts: list[IntArray],
) -> None:
    """Raise if a partitioner of the user's own deals otherwise when it is asked once more.

    Server, workers and resumed runs each ask it anew and must hear the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = _asked(partitioner, labels, num_clients, rng)
        second = validate_partition(made, len(labels), num_clients)
    if not all(map(np.array_equal, parts, second)):
        raise PartitionError(
            f"The partitioner {part_name(partitioner)} is not reproducible",
            got="two different partitions of the same labels with the same random numbers",
            next_step="Draw every random number from its argument rng, as in rng.permutation(n), "
            "and keep nothing between calls.",
        )
