"""Who owns which sample, as ``partition.parquet`` of a run folder has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.types import FederatedData
from server.reporters.columns import choices, numbers
from server.reporters.folder import RunFolder

ROWS = (
    "row of the training file, from 0; with split=test row of the test file, or of the training "
    "file where the data set has no test split"
)
"""What the column ``index`` of ``partition.parquet`` holds."""
SPLITS = ("train", "val", "test")
"""What clients use their samples for."""


def write_partition(
    folder: RunFolder,
    client_ids: npt.NDArray[np.integer],
    splits: npt.NDArray[np.integer],
    index: npt.NDArray[np.integer],
    labels: npt.NDArray[np.integer],
) -> None:
    """Write who owns which sample into ``partition.parquet``: four columns of equal length.

    ``partitioner=fixed`` reads the file back. Its metadata say what ``index`` counts.

    Args:
        folder: The run's.
        client_ids: The owner.
        splits: Places in ``SPLITS``.
        index: Row of the training file (train, val); of the test file, or of the training file
            where the data set has no test split (test).
        labels: The sample's class.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "client_id": numbers(client_ids, np.int32),
            "split": choices(splits, SPLITS),
            "index": numbers(index, np.int64),
            "label": numbers(labels, np.int64),
        }
    ).replace_schema_metadata({"index": ROWS})
    with folder.replacing("partition.parquet") as file:
        pq.write_table(table, file, compression="zstd")


def partition_columns(data: FederatedData) -> dict[str, npt.NDArray[Any]]:
    """Return the arguments of :func:`write_partition` for ``data``."""
    parts = [part for c in data.clients for part in (c.train, c.val, c.test)]
    sizes = [len(part) for part in parts]
    index = np.concatenate(parts)
    # As numbers: strings and their places would be 40 times as much, of 40 million samples.
    splits = np.repeat(np.tile(np.arange(len(SPLITS), dtype=np.int8), len(data.clients)), sizes)
    owners = np.array([client.client_id for client in data.clients], dtype=np.int32)
    rows, labels = np.empty_like(index), np.empty_like(index)
    tests = splits == SPLITS.index("test")
    for which, pool, of_file in (
        (~tests, data.train, data.train_rows),
        (tests, data.own_pool, data.own_test_rows),
    ):
        used = index[which]
        rows[which] = used if of_file is None else of_file[used]
        labels[which] = np.asarray(pool.labels)[used]
    return {
        "client_ids": np.repeat(np.repeat(owners, len(SPLITS)), sizes),
        "splits": splits,
        "index": rows,
        "labels": labels,
    }
