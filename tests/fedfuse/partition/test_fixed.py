"""A partition from a file."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedfuse.errors import ParameterError, PartitionError
from fedfuse.partition import Fixed

LABELS = np.zeros(6, dtype=np.int64)
PARTS = [[5, 0], [1], [2, 3]]


def run(path, num_clients=3):
    parts = Fixed(path)(LABELS, num_clients, np.random.default_rng(0))
    return [part.tolist() for part in parts]


def test_the_three_forms_read_alike(tmp_path):
    listed, named, arrays = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.npz"
    listed.write_text(json.dumps(PARTS))
    named.write_text(json.dumps({"2": PARTS[2], "0": PARTS[0], "1": PARTS[1]}))
    np.savez(arrays, *PARTS)
    assert run(listed) == run(str(named)) == run(arrays) == PARTS


def test_npz_names_sort_as_numbers(tmp_path):
    parts = [[i] for i in range(11)]
    np.savez(tmp_path / "p.npz", **{f"client_{i}": part for i, part in enumerate(parts)})
    got = Fixed(tmp_path / "p.npz")(np.zeros(11, int), 11, np.random.default_rng(0))
    assert [part.tolist() for part in got] == parts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.json", "[[0], [1]]", "got 2 parts, allowed: one per client, 3"),
        ("p.json", "[[0], [1], [9]]", "got 9, allowed: 0 to 5"),
        ("p.json", "[[0], [1], [1]]", "Clients 1 and 2 both hold sample 1"),
        ("p.json", "[[0], [1], [", "p.json is malformed"),
        ("p.json", "3", "p.json is malformed: got int"),
        ("p.json", '{"0": [0], "2": [1], "3": [2]}', "does not name its clients by id"),
        ("p.json", '{"a": [0], "1": [1], "2": [2]}', "got names a, 1, 2"),
        ("p.npz", "not a zip file", "p.npz is malformed"),
        ("p.npz", "PK\x03\x04 cut off", "p.npz is malformed"),
        ("p.parquet", "PAR1", "p.parquet is malformed"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(PartitionError, match=words):
        run(tmp_path / name)


def test_a_table_names_training_rows_by_client(tmp_path):
    table = {"client_id": [1, 0, 0, 1], "split": ["train", "val", "train", "test"]}
    write(tmp_path / "p.parquet", table | {"index": [4, 2, 0, 3]})
    assert run(tmp_path / "p.parquet", num_clients=2) == [[2, 0], [4]]
    write(tmp_path / "q.parquet", {"client_id": [0, 1, 1], "index": [4, 2, 0]})
    assert run(tmp_path / "q.parquet", num_clients=2) == [[4], [2, 0]]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"client": [0], "index": [1]}, "malformed: got .*client_id"),
        ({"client_id": [0, 2], "index": [1, 2]}, "does not name its clients by id"),
        ({"client_id": [0, 1], "index": [1.5, 2.0]}, "part of client 0 is not a list"),
        ({"client_id": [0, 1], "index": [1, 6]}, "got 6, allowed: 0 to 5"),
        ({"client_id": [0, 1], "index": [1, None]}, "part of client 0 is not a list"),
        ({"client_id": [0, None], "index": [1, 2]}, "does not name its clients by id"),
    ],
)
def test_a_bad_table_is_named(tmp_path, table, words):
    write(tmp_path / "p.parquet", table)
    with pytest.raises(PartitionError, match=words):
        run(tmp_path / "p.parquet", num_clients=2)


def write(path, columns):
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("name", ["none.json", "none.npz", "none.parquet"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(PartitionError, match=f"{name} cannot be read: got No such file"):
        run(tmp_path / name)


def test_pickled_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "p.npz", arr_0=np.array([object()], dtype=object))
    with pytest.raises(PartitionError, match="malformed"):
        run(tmp_path / "p.npz", 1)


@pytest.mark.parametrize("path", [None, 3, "", "p.csv", "p"])
def test_a_path_of_another_kind_is_refused_when_it_is_given(path):
    with pytest.raises(ParameterError, match=r"a \.json, \.npz or \.parquet file"):
        Fixed(path)
