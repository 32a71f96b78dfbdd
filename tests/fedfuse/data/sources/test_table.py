"""Tables: what becomes of their columns and labels, and what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fedfuse.data.public import External, HeldOut
from fedfuse.data.raw import RawDataset
from fedfuse.data.sources.breast_cancer import breast_cancer
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.data.sources.table import table
from fedfuse.data.split import federate
from fedfuse.data.tensors import to_inputs
from fedfuse.errors import DataError, DataWarning, ParameterError
from fedfuse.partition import Iid

SHARED = Path(__file__).parents[5] / "shared" / "data"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


def written(folder: Path, **parts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in parts.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def refused(folder: Path, train: str, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        table(written(folder, train=train) / "train.csv", **keys)  # type: ignore[arg-type]
    return str(caught.value)


def test_numbers_stay_and_categories_become_features(tmp_path):
    train = "size,colour,label\n1,red,no\n3,blue,yes\n5,red,no\n"
    with pytest.warns(DataWarning, match="'green' of column 'colour' in 1 rows"):
        raw = table(written(tmp_path / "d", train=train, test="label,colour,size\nyes,green,9\n"))
    assert raw.columns == ("size", "colour=blue", "colour=red")
    assert raw.class_names == ("no", "yes")
    assert raw.train.inputs.tolist() == [[1, 0, 1], [3, 1, 0], [5, 0, 1]]
    assert raw.train.labels.tolist() == [0, 1, 0]
    assert raw.test is not None
    assert raw.test.inputs.tolist() == [[9, 0, 0]]
    assert raw.mean == (3.0, 0.0, 0.0)
    assert raw.std == pytest.approx((math.sqrt(8 / 3), 1.0, 1.0))
    given = to_inputs(raw.test.inputs, raw.mean, raw.std)
    torch.testing.assert_close(given, torch.tensor([[6 / math.sqrt(8 / 3), 0.0, 0.0]]))


def test_the_cache_keeps_what_a_table_is(tmp_path):
    train = "size;colour;label\n1;red;1\n3;blue;2\n5;red;10\n"
    path = written(tmp_path / "d", train=train) / "train.csv"
    first, second = table(path), table(path)
    assert isinstance(second, RawDataset)
    assert (first.columns, first.mean, first.std) == (second.columns, second.mean, second.std)
    assert second.class_names == ("1", "2", "10")
    assert second.train.labels.tolist() == [0, 1, 2]


def test_test_rows_do_not_tell_how_to_standardise():
    raw = breast_cancer()
    data = federate(raw, partitioner=Iid(), num_clients=3, public=HeldOut(100), seed=0)
    held = data.own_test_rows
    assert held is not None
    kept = np.setdiff1d(np.arange(569), held)
    assert data.mean == pytest.approx(raw.train.inputs[kept].astype(float).mean(axis=0))
    assert data.std == pytest.approx(raw.train.inputs[kept].astype(float).std(axis=0))
    assert data.mean != pytest.approx(raw.mean)


def test_a_category_that_only_test_rows_have_counts_for_nothing(tmp_path):
    rows = "".join(f"{i},{'rare' if i == 7 else 'usual'},{i % 2}\n" for i in range(40))
    raw = table(written(tmp_path / "d", train="x,kind,label\n" + rows) / "train.csv")
    for seed in range(40):
        public = HeldOut(4)
        with pytest.warns(DataWarning, match="own tests"):
            data = federate(raw, partitioner=Iid(), num_clients=2, public=public, seed=seed)
        assert data.own_test_rows is not None
        if 7 in data.own_test_rows:
            break
    else:
        pytest.fail("no seed holds the row back")
    given = to_inputs(raw.train.inputs[7:8], data.mean, data.std)
    assert raw.train.inputs[7, 1] == 1
    assert given[0, 1:].tolist() == [0.0, 0.0]


def test_breast_cancer_is_what_scikit_learn_has():
    sklearn = pytest.importorskip("sklearn.datasets")
    raw, theirs = breast_cancer(), sklearn.load_breast_cancer()
    np.testing.assert_array_equal(raw.train.inputs, theirs.data.astype(np.float32))
    np.testing.assert_array_equal(raw.train.labels, theirs.target)
    assert raw.class_names == tuple(theirs.target_names)
    assert raw.columns == tuple(theirs.feature_names)


MANY = "\n".join(f"{i},{i}" for i in range(1, 5001))


@pytest.mark.parametrize(
    ("train", "keys", "words"),
    [
        ("a,b\n1,2\n", {}, "No label column .*columns a, b.*dataset.label_column"),
        ("a,b\n1,2\n", {"label_column": "c"}, "No column 'c'"),
        ("a,label\n1,2\n", {"drop": ["c"]}, "No column 'c'.*dataset.drop"),
        ("a,label\n1,2\n", {"drop": ["a"]}, "no column beside the label"),
        ("a,label\n1,x\n,y\n", {}, "without a finite number.*1 of 2.*row 1.*fillna"),
        ("a,label\n1,x\ninf,y\n", {}, "without a finite number.*row 1"),
        ("a,label\n1,x\n2,\n", {}, "'label'.*has empty cells.*1 of 2"),
        ("a,label\n1,0.5\n2,1.5\n", {}, "regression.*pandas.cut"),
        ("a,label\n" + MANY, {}, "too many different labels.*regression.*5000 different"),
        ("a,label\n" + MANY.replace(",", ",c"), {}, "too many different labels.*at most 1000"),
        ("a,label\n1,x\n2,y\n?,x\n", {}, r"text among numbers.*'\?' in row 2.*categorical"),
        (
            "a,label\n" + "\n".join(f"word {i},{i % 2}" for i in range(50)),
            {},
            r"holds text, and no categories.*50 different.*dataset.drop=\['a'\]",
        ),
        ("a,label\n2020-01-01,x\n2020-01-02,y\n", {}, "neither numbers nor categories.*date32"),
        ("a,a,label\n1,2,x\n", {}, "two columns of the same name"),
        ("a,label\n", {}, "has no rows"),
        ("a,label\n1,2,3\n", {}, "not a readable table"),
        ("", {}, "not a readable table"),
    ],
)
def test_what_is_no_table_of_classes_is_refused(tmp_path, train, keys, words):
    said = refused(tmp_path / "d", train, **keys)
    assert re.search(words, said, re.DOTALL), said


@pytest.mark.parametrize("label", [math.inf, 2.0**53, 1e30])
def test_labels_that_are_no_exact_whole_numbers_are_refused(tmp_path, label):
    pq.write_table(pa.table({"a": [1, 2], "label": [1.0, label]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"regression.*got double, 2 different"):
        table(tmp_path / "t.parquet")


def test_numbers_of_all_widths_are_read(tmp_path):
    columns = {
        "id": pa.array([2**60, 2**60 + 1, -(2**60)]),
        "count": pa.array([2**64 - 1, 0, 1], pa.uint64()),
        "label": pa.array([1, 0, 1], pa.float16()),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    raw = table(tmp_path / "t.parquet")
    expected = np.array([[2.0**60, 2.0**64], [2.0**60, 0], [-(2.0**60), 1]], dtype=np.float32)
    np.testing.assert_array_equal(raw.train.inputs, expected)
    assert raw.train.labels.tolist() == [1, 0, 1]


def test_numbers_may_be_categories(tmp_path):
    train = written(tmp_path / "d", train="code,label\n7,a\n9,b\n7,a\n") / "train.csv"
    assert table(train, categorical=["code"]).columns == ("code=7", "code=9")


def test_what_is_text_in_training_files_is_text_in_all(tmp_path):
    train = "size,site,sure,label\n1,01,True,02\n2,A,Maybe,B\n3,NA,False,B\n"
    test = "size,site,sure,label\n4,01,True,02\n5,01,True,02\n"
    raw = table(written(tmp_path / "d", train=train, test=test))
    assert raw.class_names == ("02", "B")
    assert raw.test is not None
    assert raw.test.labels.tolist() == [0, 0]
    named = dict(zip(raw.columns, raw.test.inputs[1].tolist(), strict=True))
    assert {name for name, value in named.items() if value} == {"size", "site=01", "sure=True"}
    written(tmp_path / "d", test="size,site,sure,label\n4,NA,True,02\n")
    raw = table(tmp_path / "d")
    assert raw.test is not None
    assert raw.test.inputs[0, raw.columns.index("site=NA")] == 1


def test_a_whole_number_is_one_category_however_its_column_is_typed(tmp_path):
    train, test = "code,label\n7,a\n9,b\n", "code,label\n9,a\n,b\n"  # pandas writes 9.0 then
    folder = written(tmp_path / "d", train=train, test=test)
    with pytest.warns(DataWarning, match="'' of column 'code' in 1 rows"):
        raw = table(folder, categorical=["code"])
    written(folder, test=test.replace("9", "9.0"))
    with pytest.warns(DataWarning, match="'' of column 'code' in 1 rows"):
        floats = table(folder, categorical=["code"])
    assert raw.columns == floats.columns == ("code=7", "code=9")
    assert raw.test is not None
    assert floats.test is not None
    assert raw.test.inputs.tolist() == floats.test.inputs.tolist() == [[0, 1], [0, 0]]


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    folder = written(tmp_path / "d", train="a,b,label\n1,2,x\n2,3,y\n", test="a,label\n1,x\n")
    with pytest.raises(DataError, match=r"No column 'b' in .*test\.csv"):
        table(folder)
    written(folder, test="a,b,label\n1,2,z\n")
    with pytest.raises(DataError, match="classes that the training data has not"):
        table(folder)
    written(folder, test="a,b,label\n1,many,x\n")
    with pytest.raises(DataError, match="holds text, and numbers in the training file"):
        table(folder)


def test_images_in_a_table_are_another_kind_of_data(tmp_path):
    pq.write_table(pa.table({"img": [b"x"], "label": [0]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="dataset=hub"):
        table(tmp_path / "t.parquet")


@pytest.mark.parametrize("path", ["none.csv", "there.txt"])
def test_what_is_no_file_of_a_table_is_refused(tmp_path, path):
    (tmp_path / "there.txt").write_text("a,label\n1,2\n")
    with pytest.raises(DataError, match="no table"):
        table(tmp_path / path)


def test_a_public_set_of_another_kind_is_refused(tmp_path):
    raw = breast_cancer()
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"images uint8 \[1, 8, 8\].*features float32 \[30\]"):
        External(synthetic(num_train=50), size=10)(raw, np.arange(569), rng)
    train = "a,kind,label\n" + "".join(f"{i},{'pq'[i % 2]},{i % 2}\n" for i in range(20))
    ours = table(written(tmp_path / "d", train=train) / "train.csv")
    theirs = table(written(tmp_path / "d", train=train.replace("q", "r")) / "train.csv")
    with pytest.raises(DataError, match="kind=r beside them, kind=q of them missing"):
        External(theirs, size=10)(ours, np.arange(20), rng)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not here")
def test_letters(tmp_path):
    raw = table(SHARED / "letters")
    assert raw.test is not None
    assert (len(raw.train), len(raw.test), raw.num_classes) == (16000, 4000, 26)
    assert raw.class_names[:3] == ("A", "B", "C")
    assert len(raw.columns) == 16


def test_white_space_belongs_to_no_name(tmp_path):
    train = "size, colour, label\n1, red, no\n3,red , yes\n5,blue,no \n"
    raw = table(written(tmp_path / "d", train=train) / "train.csv")
    assert raw.columns == ("size", "colour=blue", "colour=red")
    assert raw.class_names == ("no", "yes")


def test_what_is_no_utf_8_is_said_to_be_none(tmp_path):
    file = tmp_path / "a.csv"
    for text in (
        "größe,label\n1,a\n2,b\n",
        "size,label\n1,ä\n2,b\n",
        "a,size,label\nä,1,a\nb,2,b\n",
    ):
        file.write_text(text, encoding="latin-1")
        with pytest.raises(DataError, match=r"a\.csv is not in UTF-8\. Save it as 'CSV UTF-8'"):
            table(file)
    file.write_text("size,label\n1,a\n2,b\n", encoding="utf-16")
    with pytest.raises(DataError, match="is not in UTF-8"):
        table(file)


@pytest.mark.parametrize("cell", ["1,5", "1.234,5", "$ 1,000", "12%", "1'000.50", "-3,0"])
def test_numbers_in_another_notation_are_no_categories(tmp_path, cell):
    rows = "".join(f'"{cell}";{i};{"ab"[i % 2]}\n' for i in range(9))
    said = refused(tmp_path, f"size;x;label\n7;1;a\n{rows}")
    assert f"holds numbers that are written in another way: got '{cell}'" in said
    file = written(tmp_path, train=f"size;x;label\n7;1;a\n{rows}") / "train.csv"
    assert table(file, categorical="size").columns == ("size=" + min("7", cell), "size=" +
                                                       max("7", cell), "x")  # fmt: skip


@pytest.mark.parametrize("word", ["10-20", "1.2.3", "3rd", "2024-01"])
def test_words_with_digits_are_categories(tmp_path, word):
    file = written(tmp_path, train=f"size,label\n{word},a\n{word},b\n") / "train.csv"
    assert table(file).columns == (f"size={word}",)


def test_columns_may_be_named_one_alone_or_none(tmp_path):
    file = written(tmp_path, train="age,size,label\n1,2,a\n2,1,b\n") / "train.csv"
    assert table(file, drop="age", categorical=None).columns == ("size",)
    with pytest.raises(ParameterError, match=r"'drop' .* of table .* got 1\.5, allowed: a list"):
        table(file, drop=1.5)  # type: ignore[arg-type]


def test_classes_that_differ_in_case_alone_are_told(tmp_path):
    file = written(tmp_path, train="x,label\n1,Cat\n2,cat\n") / "train.csv"
    with pytest.warns(DataWarning, match="'Cat' and 'cat' of column 'label' are taken for two"):
        table(file)
    letters = written(tmp_path, letters="x,label\n1,A\n2,a\n") / "letters.csv"
    assert table(letters).class_names == ("A", "a")


def test_texts_are_no_classes(tmp_path):
    rows = "".join(f"{i},text {i * (i % 3 > 0)}\n" for i in range(90))
    assert "too many different labels to be classes" in refused(tmp_path, f"x,label\n{rows}")


def test_a_row_may_be_longer_than_a_megabyte(tmp_path):
    long = "w" * 1_200_000
    file = written(tmp_path, train=f"x,c,label\n1,{long},a\n2,{long},b\n3,v,b\n") / "train.csv"
    assert len(table(file).columns) == 3
