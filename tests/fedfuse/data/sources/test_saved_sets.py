"""Folders of save_to_disk, without the library that wrote them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fedfuse.data.by_column import ByColumn
from fedfuse.data.saved_sets import read_arrow
from fedfuse.data.sources.hub import hub
from fedfuse.data.sources.local import local
from fedfuse.data.sources.table import table
from fedfuse.data.sources.text import text
from fedfuse.errors import DataError

NAMES = ["ant", "bee"]
IMAGES = pa.schema(
    [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())]
)
FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": NAMES}}
RNG = np.random.default_rng(0)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def rows(count: int, seed: int = 0) -> dict[str, list[object]]:
    drawn = np.random.default_rng(seed).integers(0, 256, (count, 6, 5), dtype=np.uint8)
    images = [{"bytes": png(each), "path": None} for each in drawn]
    return {"image": images, "label": [i % 2 for i in range(count)]}


def write(folder: Path, data: dict[str, list[object]], schema: pa.Schema | None = IMAGES, shards=2):
    """Write one split as datasets does: Arrow streams, and a state that names them."""
    folder.mkdir(parents=True)
    whole = pa.table(data, schema=schema)
    if schema is IMAGES:
        told = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
        whole = whole.replace_schema_metadata(told)
    step = -(-len(whole) // shards)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    for i, name in enumerate(names):
        part = whole.slice(i * step, step)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as w:
            w.write_table(part)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": n} for n in names]})
    )
    (folder / "dataset_info.json").write_text("{}")


def write_all(root: Path, **splits: dict[str, list[object]]) -> Path:
    for split, data in splits.items():
        write(root / split, data)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("read", [lambda path: hub(path=path), local])
def test_a_saved_set_is_read_by_whatever_reads_folders(tmp_path, read):
    root = write_all(tmp_path / "set", train=rows(10), test=rows(4, 1), validation=rows(4, 2))
    (root / "train" / "cache-0a1b.arrow").write_bytes(b"what map() left")
    raw = read(root)
    assert raw.train.inputs.shape == (10, 1, 6, 5)
    assert raw.train.labels.tolist() == [0, 1] * 5
    assert len(raw.test) == 4
    assert raw.class_names == ("ant", "bee")
    assert len(read(root / "train").train) == 10, "one split is a set too"
    assert read(root / "train").test is None


def test_it_has_what_the_same_rows_have_as_parquet(tmp_path):
    datasets = pytest.importorskip("datasets")
    data, label = rows(8), datasets.ClassLabel(names=NAMES)
    features = datasets.Features({"image": datasets.Image(), "label": label})
    made = datasets.Dataset.from_dict(data, features=features)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "parquet").mkdir()
    for split in ("train", "test"):
        made.to_parquet(str(tmp_path / "parquet" / f"{split}.parquet"))
    found, expected = (hub(path=tmp_path / name) for name in ("saved", "parquet"))
    assert found.fingerprint == expected.fingerprint


def test_saved_tables_and_texts_and_their_columns_are_read_too(tmp_path):
    plain = {"x": [0.5, 1.0, 2.0, 3.0], "label": ["a", "b", "a", "b"], "who": list("uvuv")}
    write(tmp_path / "t", plain, None)
    assert table(tmp_path / "t", drop=["who"]).train.inputs.tolist() == [[0.5], [1], [2], [3]]
    parts = ByColumn("who", tmp_path / "t")(np.zeros(4, int), 2, RNG)
    assert [part.tolist() for part in parts] == [[0, 2], [1, 3]]
    write(tmp_path / "w", {"text": ["one two", "three"] * 2, "label": [0, 1, 0, 1]}, None)
    assert text(tmp_path / "w").is_text
    assert hub(path=tmp_path / "w").is_text
    assert local(tmp_path / "w").is_text


def _state(root: Path, value: object) -> None:
    (root / "train" / "state.json").write_text(json.dumps(value))


BAD = {
    "a split that is missing": (
        lambda root: (root / "train" / "state.json").unlink(),
        r"state.json is not what datasets.save_to_disk writes",
    ),
    "a file that is missing": (
        lambda root: next((root / "train").glob("*.arrow")).unlink(),
        "arrow is missing, which",
    ),
    "a damaged file": (
        lambda root: next((root / "train").glob("*.arrow")).write_bytes(b"\xff" * 50),
        "is not a readable Arrow file",
    ),
    "one cut off": (
        lambda root: [
            f.write_bytes(f.read_bytes()[:600]) for f in (root / "train").glob("*.arrow")
        ],
        "is not a readable Arrow file",
    ),
    "no JSON": (
        lambda root: (root / "dataset_dict.json").write_text("[1"),
        "dataset_dict.json is not what",
    ),
    "no names": (lambda root: _state(root, {"_data_files": [3]}), "state.json is not what"),
    "no files": (lambda root: _state(root, {"_data_files": []}), "state.json is not what"),
    "a way out": (
        lambda root: _state(root, {"_data_files": [{"filename": "../../secret.arrow"}]}),
        "state.json is not what",
    ),
    "a way out by a split": (
        lambda root: (root / "dataset_dict.json").write_text('{"splits": ["../train"]}'),
        "dataset_dict.json is not what",
    ),
    "rows apart": (
        lambda root: _state(
            root, {"_data_files": [{"filename": "x"}], "_indices_data_files": [{"filename": "i"}]}
        ),
        "saved by an old version",
    ),
    "no train": (
        lambda root: (root / "dataset_dict.json").write_text('{"splits": ["test"]}'),
        "has no train split",
    ),
    "two trains": (
        lambda root: (root / "dataset_dict.json").write_text('{"splits": ["train", "train2"]}'),
        "are not clear",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_set_is_one_message(tmp_path, name):
    change, message = BAD[name]
    change(write_all(tmp_path / "set", train=rows(4), test=rows(4)))
    with pytest.raises(DataError, match=message):
        hub(path=tmp_path / "set")


def test_a_text_column_in_an_image_source_is_refused(tmp_path):
    write(tmp_path / "d", {"image": ["one", "two"] * 3, "label": [0, 1] * 3}, None)
    with pytest.raises(DataError, match=r"does not hold encoded images.*dataset.text_column"):
        hub(path=tmp_path / "d")


def test_what_unpacks_to_far_more_than_it_is_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "d", rows(4), shards=1)
    monkeypatch.setattr("fedfuse.data.saved_sets.MOST_UNPACKED", 10)
    monkeypatch.setattr("fedfuse.data.saved_sets.MOST_RATIO", 0)
    with pytest.raises(DataError, match="is not unpacked"):
        read_arrow(next((tmp_path / "d").glob("*.arrow")))
