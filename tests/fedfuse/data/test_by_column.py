"""Natural splits by a column of the training file, and what cannot be one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedfuse.data.by_column import ByColumn
from fedfuse.data.public import HeldOut
from fedfuse.data.sources.table import table
from fedfuse.data.split import federate
from fedfuse.errors import DataWarning, PartitionError

RNG = np.random.default_rng(0)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))
    rows = "".join(f"{i},{i % 2},{'bcad'[i % 4]},here,\n" for i in range(400))
    found = tmp_path / "t.csv"
    found.write_text("x,label,writer,place,nobody\n" + rows)
    return found


@pytest.mark.filterwarnings("ignore::fedfuse.errors.DataWarning")
def test_each_client_has_the_rows_of_one_writer(path):
    raw = table(path, drop=["writer", "place", "nobody"])
    with pytest.warns(DataWarning, match="are left out, because this run uses them as"):
        data = federate(
            raw, partitioner=ByColumn("writer", path), num_clients=4, public=HeldOut(20), seed=0
        )
    for client, first in zip(data.clients, (2, 0, 1, 3), strict=True):  # a, b, c, d
        rows = np.concatenate([client.train, client.val])
        assert set(rows % 4) == {first}


def test_more_writers_than_clients_share_a_client(path):
    parts = ByColumn("writer", str(path))(np.zeros(400, dtype=np.int64), 2, RNG)
    assert [sorted(set((part % 4).tolist())) for part in parts] == [[1, 2], [0, 3]]


@pytest.mark.parametrize(
    ("column", "clients", "rows", "words"),
    [
        ("place", 2, 400, "has one value.*here"),
        ("writer", 5, 400, "fewer values than there are clients.*num_clients=4"),
        ("speaker", 2, 400, "No column 'speaker'.*writer"),
        ("nobody", 2, 400, "empty cells.*400 of 400"),
        ("writer", 2, 399, "400 rows.*399 training samples"),
    ],
)
def test_a_column_that_deals_nothing_is_refused(path, column, clients, rows, words):
    with pytest.raises(PartitionError, match=f"(?s){words}"):
        ByColumn(column, path)(np.zeros(rows, dtype=np.int64), clients, RNG)


def test_what_is_not_a_number_is_no_writer(tmp_path):
    pq.write_table(pa.table({"writer": [1.0, float("nan"), 2.0, 2.0]}), tmp_path / "t.parquet")
    with pytest.raises(PartitionError, match=r"empty cells.*1 of 4"):
        ByColumn("writer", tmp_path / "t.parquet")(np.zeros(4, dtype=np.int64), 2, RNG)


def test_a_data_set_without_a_file_has_no_columns():
    with pytest.raises(PartitionError, match=r"Set dataset\.path"):
        ByColumn("writer")(np.zeros(4, dtype=np.int64), 2, RNG)
