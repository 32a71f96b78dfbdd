"""Run a partitioner, check what it returned and keep the record of its repairs."""

from __future__ import annotations

import warnings

import numpy as np

from fedfuse.partition.check import validate_partition
from fedfuse.partition.repair import RepairWarning
from fedfuse.protocols import Partitioner
from fedfuse.types import IntArray


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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RepairWarning)
        parts = validate_partition(partitioner(labels, num_clients, rng), len(labels), num_clients)
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
