"""Who owns which sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fedfuse.types import ClientData, FederatedData, PublicSet, Samples
from server.reporters.folder import RunFolder
from server.reporters.partition_file import partition_columns, write_partition


def test_the_partition_names_the_owner_of_each_sample(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    train = Samples(np.zeros((4, 1, 1, 1), np.uint8), np.array([5, 6, 7, 8]))
    test = Samples(np.zeros((2, 1, 1, 1), np.uint8), np.array([1, 2]))
    clients = (
        ClientData(0, np.array([3, 0]), np.array([1]), np.array([1])),
        ClientData(1, np.array([2]), np.array([], np.int64), np.array([0, 1])),
    )
    public = PublicSet(train.inputs, None, "none")
    data = FederatedData("d", train, test, public, clients, 9, (0.0,), (1.0,), "f")
    write_partition(folder, **partition_columns(data))
    table = pq.read_table(folder.path / "partition.parquet")
    assert table.to_pydict() == {
        "client_id": [0, 0, 0, 0, 1, 1, 1],
        "split": ["train", "train", "val", "test", "train", "test", "test"],
        "index": [3, 0, 1, 1, 2, 0, 1],
        "label": [8, 5, 6, 2, 7, 1, 2],
    }
    assert [str(field.type) for field in table.schema] == ["int32", "string", "int64", "int64"]
