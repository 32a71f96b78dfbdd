"""Texts from files: what becomes of them and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedfuse.data import words as words_module
from fedfuse.data.by_column import ByColumn
from fedfuse.data.class_noise import ClassNoise
from fedfuse.data.jitter import Jitter
from fedfuse.data.public import External, HeldOut, Noise
from fedfuse.data.sources.docstrings import docstrings, read_docstrings
from fedfuse.data.sources.hub import hub
from fedfuse.data.sources.local import local
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.data.sources.table import table
from fedfuse.data.sources.text import text
from fedfuse.data.split import federate
from fedfuse.data.tensors import to_inputs
from fedfuse.data.words import number_words, word_number
from fedfuse.errors import DataError
from fedfuse.partition import Iid
from fedfuse.partition.feature_noise import FeatureNoise

SHARED = Path(__file__).parents[5] / "shared" / "data"
ROWS = 'text,label\nthe sea,blue\n"grass, and leaves",green\nsky,blue\n'


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


def csv(folder: Path, **parts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in parts.items():
        (folder / f"{name}.csv").write_text(rows, encoding="utf-8")
    return folder


def parquet(folder: Path, metadata: object = None, **parts: dict[str, list[object]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, columns in parts.items():
        made = pa.table(columns)
        if metadata is not None:
            features = {"huggingface": json.dumps({"info": {"features": metadata}})}
            made = made.replace_schema_metadata(features)
        pq.write_table(made, folder / f"{name}.parquet")
    return folder


def refused(read: object, path: Path, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        read(path=path, **keys)  # type: ignore[operator]
    return str(caught.value)


def test_texts_become_word_numbers_and_labels_classes(tmp_path):
    raw = text(csv(tmp_path / "d", train=ROWS, test="label,text\ngreen,the grass\n"), words=4)
    number = word_number
    assert raw.is_text
    assert not raw.is_image
    assert raw.class_names == ("blue", "green")
    assert raw.train.labels.tolist() == [0, 1, 0]
    assert raw.train.inputs.tolist() == [
        [number("the"), number("sea"), 0, 0],
        [number("grass"), number(","), number("and"), number("leaves")],
        [number("sky"), 0, 0, 0],
    ]
    assert raw.test is not None
    assert raw.test.inputs.tolist() == [[number("the"), number("grass"), 0, 0]]
    given = to_inputs(raw.train.inputs, raw.mean, raw.std)
    assert given.long().tolist() == raw.train.inputs.tolist()


def test_words_are_numbered_once_for_the_same_content(tmp_path, monkeypatch):
    path = csv(tmp_path / "d", train=ROWS)
    first = text(path)

    def twice(*_: object) -> object:
        raise AssertionError("read again")

    monkeypatch.setattr(words_module, "split_words", twice)
    second = text(path)
    third = text(csv(tmp_path / "e", train=ROWS), name="d")  # a copy elsewhere
    assert first.fingerprint == second.fingerprint == third.fingerprint
    with pytest.raises(AssertionError, match="read again"):
        text(path, words=3)


def test_the_text_column_is_found_or_named(tmp_path):
    rows = "review,title,label\nlong one,a,x\nother,b,y\n"
    path = csv(tmp_path / "d", train=rows)
    assert text(path, words=2).train.inputs[0].tolist() == [word_number("long"), word_number("one")]
    assert text(path, text_column="title", words=1).train.inputs[0, 0] == word_number("a")
    odd = csv(tmp_path / "e", train="utterance,n,label\nhello,1,x\nbye,2,y\n")
    assert text(odd, words=1).train.inputs[0, 0] == word_number("hello")
    assert "Several columns" in refused(text, csv(tmp_path / "f", train="a,b,label\nx,y,1\n"))


def test_a_local_copy_of_a_hub_set_is_of_texts(tmp_path):
    names = {"label": {"_type": "ClassLabel", "names": ["World", "Sports"]}}
    rows: dict[str, list[object]] = {"text": ["a b", "c"], "label": [1, 0]}
    path = parquet(tmp_path / "copy", names, train=rows, test=rows)
    for raw in (hub(name="fancyzhx/ag_news", path=path), local(path)):
        assert raw.is_text
        assert raw.class_names == ("World", "Sports")
        assert raw.train.labels.tolist() == [1, 0]
    assert hub(name="fancyzhx/ag_news", path=path).name == "ag_news"


@pytest.mark.parametrize(
    ("train", "keys", "told"),
    [
        (ROWS + " ,blue\n", {}, "cells without a word"),
        (ROWS, {"text_column": "label"}, "both the text and the label"),
        (ROWS, {"text_column": "txt"}, "No column 'txt'"),
        (ROWS, {"label_column": "kind"}, "No column 'kind'"),
        ("a,label\n1,x\n2,y\n", {}, "No column of"),
        ("a,text,label\n1,u,x\n2,v,y\n", {"text_column": "a"}, "does not hold texts"),
        ("text,label\nu,\nv,y\n", {}, "empty cells"),
        ("text,label\n" + "".join(f"w,n{i}\n" for i in range(1001)), {}, "too many different"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, train, keys, told):
    assert told in refused(text, csv(tmp_path / "d", train=train), **keys)


def test_missing_cells_and_pictures_are_refused(tmp_path):
    rows: dict[str, list[object]] = {"text": ["a", None], "label": ["x", "y"]}
    assert "1 of 2, the first in row 1" in refused(text, parquet(tmp_path / "a", train=rows))
    rows = {"text": [b"\x89PNG", b"\x89PNG"], "label": ["x", "y"]}
    message = refused(text, parquet(tmp_path / "b", train=rows), text_column="text")
    assert "dataset=hub dataset.image_column='text'" in message


def test_many_classes_that_metadata_name_are_refused(tmp_path):
    names = {"label": {"_type": "ClassLabel", "names": [str(i) for i in range(50_000)]}}
    rows: dict[str, list[object]] = {"text": ["a b", "c"], "label": [1, 0]}
    told = refused(hub, parquet(tmp_path / "d", names, train=rows))
    assert "too many classes" in told
    assert "50000" in told


def test_a_text_column_in_an_image_or_table_source_is_told_where_it_belongs(tmp_path):
    rows: dict[str, list[object]] = {"text": ["a", "b"], "label": [0, 1]}
    path = parquet(tmp_path / "d", train=rows)
    assert "dataset.text_column='text'" in refused(hub, path, image_column="text")
    texts = "".join(f"word{i} and more,x\n" for i in range(30))
    told = refused(table, csv(tmp_path / "t", train="text,label\n" + texts))
    assert "dataset=text" in told


def texts_of(word: str, words: int = 4):
    rows = "".join(f"{word}{i} and {i % 7},{i % 2}\n" for i in range(120))
    return rows, words


def test_public_sets_of_texts(tmp_path):
    rows, words = texts_of("a")
    raw = text(csv(tmp_path / "d", train="text,label\n" + rows), words=words)
    other = text(csv(tmp_path / "e", train="text,label\n" + texts_of("b")[0]), words=2)

    def public(source: object):
        data = federate(raw, partitioner=Iid(), num_clients=2, public=source, seed=0)
        assert data.is_text
        return data.public

    assert public(HeldOut(20)).inputs.shape == (20, 4)
    external = public(External(other, 20))
    assert external.inputs.shape == (20, 4)
    assert not external.inputs[:, 2:].any()  # two words, and two that are none
    assert external.labels is None
    noise = public(Noise(20))
    assert set(noise.inputs.ravel().tolist()) <= {0, *raw.train.inputs.ravel().tolist()}
    assert (noise.inputs[:, :3] > 0).all()  # every text has three words
    assert not noise.inputs[:, 3].any()
    for numbers in (Noise(20, "gaussian"), Jitter(20, 5), ClassNoise(20)):
        with pytest.raises(DataError, match="holds texts"):
            public(numbers)
    for another in (synthetic(kind="features", num_features=4), synthetic()):
        with pytest.raises(DataError, match="cannot be matched"):
            public(External(another, 20))
        with pytest.raises(DataError, match="cannot be matched"):
            federate(another, partitioner=Iid(), num_clients=2, public=External(raw, 20), seed=0)


def test_a_feature_shift_of_texts_is_refused(tmp_path):
    raw = text(csv(tmp_path / "d", train="text,label\n" + texts_of("a")[0]))
    with pytest.raises(DataError, match="images"):
        federate(raw, partitioner=FeatureNoise(), num_clients=2, public=HeldOut(20), seed=0)


def test_texts_are_dealt_out_by_a_column(tmp_path):
    rows = "".join(f"t{i},{i % 2},w{i % 3}\n" for i in range(120))
    path = csv(tmp_path / "d", train="text,label,writer\n" + rows)
    raw = text(path, text_column="text")
    data = federate(
        raw, partitioner=ByColumn("writer", path), num_clients=3, public=HeldOut(20), seed=0
    )
    for client in data.clients:
        assert len({row % 3 for row in client.train.tolist()}) == 1


def test_the_default_text_is_real_prose_of_ten_topics():
    texts, topics = read_docstrings()
    assert len(texts) == 5000
    assert len(set(texts)) == 5000
    raw = docstrings()
    assert raw.class_names == topics
    assert np.bincount(raw.train.labels).tolist() == [500] * 10
    assert raw.train.inputs[:2].tolist() == number_words(texts[:2], 64, "").tolist()
    assert docstrings(words=8).train.inputs.shape == (5000, 8)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")
def test_real_glosses():
    raw = text(SHARED / "glosses")
    assert raw.is_text
    assert len(raw.train) == 20_400
    assert raw.num_classes == 10
