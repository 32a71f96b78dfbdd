"""A label means the class of that name, whatever number a file gives it."""

import io
import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedfuse.data.classes import check_classes
from fedfuse.data.public import HeldOut
from fedfuse.data.raw import Decoded, describe
from fedfuse.data.sources.npz import npz
from fedfuse.data.sources.parquet import parquet
from fedfuse.data.split import federate
from fedfuse.errors import DataError, DataWarning
from fedfuse.partition import Iid
from fedfuse.types import Samples

TRUE = ("cat", "dog", "owl")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


def write(path, said, names=None, first=0):
    """Write images whose brightness tells their true class; ``said`` are the labels."""
    blobs = []
    for i in range(len(said)):
        buffer = io.BytesIO()
        Image.new("L", (2, 2), (first + i) % 3 * 100).save(buffer, "PNG")
        blobs.append({"bytes": buffer.getvalue(), "path": None})
    table = pa.table({"image": blobs, "label": pa.array(said, pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def right(samples, names):
    """Tell whether every image has the label of its true class."""
    shown = samples.inputs[:, 0, 0, 0] // 100
    return [names[i] for i in samples.labels] == [TRUE[i] for i in shown]


@pytest.mark.parametrize("names", [["owl", "cat", "dog"], ["owl", "dog", "cat", "bat"]])
def test_splits_that_number_their_classes_differently_agree_by_name(tmp_path, names):
    write(tmp_path / "d/train.parquet", [0, 1, 2] * 2, [*TRUE])
    write(tmp_path / "d/test.parquet", [names.index(n) for n in TRUE], names)
    raw = parquet(tmp_path / "d")
    assert raw.class_names == TRUE
    assert raw.test.labels.tolist() == [0, 1, 2]
    assert right(raw.train, TRUE)
    assert right(raw.test, TRUE)


def test_shards_that_number_their_classes_differently_agree_by_name(tmp_path):
    write(tmp_path / "d/train-0.parquet", [0, 1], ["cat", "dog"])
    write(tmp_path / "d/train-1.parquet", [0, 1, 2], ["owl", "cat", "dog"], first=2)
    write(tmp_path / "d/test.parquet", [1, 2, 0], ["owl", "cat", "dog"])
    raw = parquet(tmp_path / "d")
    assert raw.class_names == ("cat", "dog", "owl")
    assert raw.train.labels.tolist() == [0, 1, 2, 0, 1]
    assert right(raw.train, raw.class_names)
    assert right(raw.test, raw.class_names)


def test_names_of_another_form_of_unicode_are_the_same(tmp_path):
    write(tmp_path / "d/train.parquet", [0, 1], ["Z\u00e4hler", "b"])
    write(tmp_path / "d/test.parquet", [1, 0], ["b", "Za\u0308hler"])
    assert parquet(tmp_path / "d").test.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("train", "test", "labels", "message"),
    [
        ([*TRUE], ["cat", "dog", "bat"], [0, 1, 2], "that the training data has not: got bat"),
        ([*TRUE], ["Cat", "dog", "owl"], [0, 1, 2], "got Cat, allowed: cat, dog, owl"),
        ([*TRUE], None, [0, 1, 2], "have names and those of .*test.parquet have none"),
        (None, [*TRUE], [0, 1, 2], "have names and those of .*train.parquet have none"),
        ([*TRUE], ["cat", "cat", "owl"], [0, 1, 2], "same name: got 'cat'"),
        ([*TRUE], ["owl", "cat", "dog"], [0, 1, 3], "outside its 3 classes"),
        ([*TRUE], ["owl", "cat", "dog"], [-1, -1, -1], "marked -1"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_mapped_are_refused(tmp_path, train, test, labels, message):
    write(tmp_path / "d/train.parquet", [0, 1, 2], train)
    write(tmp_path / "d/test.parquet", labels, test)
    with pytest.raises(DataError, match=message):
        parquet(tmp_path / "d")


def save(path, y, **more):
    x = np.random.default_rng(0).integers(0, 255, (len(y), 4, 4), dtype=np.uint8)
    np.savez(path, x_train=x, y_train=y, **more)
    return npz(path)


def deal(raw):
    return federate(
        raw, partitioner=Iid(), num_clients=2, public=HeldOut(10, "natural"), seed=0, batch_size=1
    )


def test_names_come_with_the_federation(tmp_path):
    raw = save(tmp_path / "a.npz", np.arange(60) % 3, class_names=np.array([b"a", b"b", b"c"]))
    assert raw.class_names == ("a", "b", "c")
    assert deal(raw).class_names == ("a", "b", "c")
    with pytest.raises(DataError, match="same name: got 'a'"):
        save(tmp_path / "b.npz", np.arange(60) % 2, class_names=np.array(["a", "a"]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(60) % 3 + 1, "class 0 has no samples; labels are numbered from 0: got 3 .*1 to 3"
         ", allowed: 0 to 2. Subtract 1 from every label"),
        (np.arange(60) % 3 + 2, "classes 0, 1 have no samples.*Subtract 2"),
        (np.array([0, 7, 9])[np.arange(60) % 3], "classes 1, 2, 3, 4, 5, ... have no samples"),
        (np.arange(60) % 3 * 2, "classes 1, 3 have no samples.*numpy.unique"),
        (np.zeros(60, dtype=int), "single class"),
        (np.ones(60, dtype=int), "single class"),
    ],
)  # fmt: skip
def test_labels_that_are_not_numbered_from_0_are_refused_by_name(tmp_path, labels, message):
    raw = save(tmp_path / "a.npz", labels)
    with pytest.raises(DataError, match=message) as caught:
        deal(raw)
    assert "natural" not in str(caught.value)


def test_a_named_class_without_samples_is_told(tmp_path):
    raw = save(tmp_path / "a.npz", np.arange(60) % 2 + 1, class_names=np.array(["N/A", "b", "c"]))
    with pytest.warns(DataWarning, match=r"class 0 \('N/A'\) has no samples"):
        deal(raw)


def test_a_test_class_that_nobody_can_learn_is_refused(tmp_path):
    x = np.zeros((4, 4, 4), dtype=np.uint8)
    raw = save(tmp_path / "a.npz", np.arange(60) % 3, x_test=x, y_test=np.arange(4))
    with pytest.raises(DataError, match="no sample is for training: got class 3"):
        deal(raw)


def test_a_label_that_is_an_id_costs_no_memory(tmp_path):
    with pytest.raises(
        DataError, match=r"too large to be the number of a class: got 1099511627776"
    ):
        save(tmp_path / "a.npz", np.array([0, 2**40]))
    with pytest.raises(DataError, match="does not hold class ids"):
        save(tmp_path / "b.npz", np.array([0, 2**63 + 5], dtype=np.uint64))


def test_the_shared_set_of_sites_may_lack_a_class_but_not_the_first(tmp_path):
    def raw(labels):
        y = np.array(labels)
        x = np.zeros((len(y), 2), dtype=np.float32)
        return describe("s", Decoded(Samples(x, y), None, tuple(map(str, range(int(y.max()) + 1)))))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_classes(raw([0, 2]), all_present=False)
    with pytest.raises(DataError, match="class 0 has no samples"):
        check_classes(raw([1, 2]), all_present=False)
    with pytest.raises(DataError, match="single class"):
        check_classes(raw([0, 0]), all_present=False)


def test_features_that_no_learning_rate_can_take_are_told(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        deal(save_features(tmp_path / "a.npz", x * [1, 1000, 1]))
    assert not [w for w in told if "reach" in str(w.message)]
    with pytest.warns(DataWarning, match=r"reach .*e\+30 \(column 1, counted from 0\).*Scale"):
        deal(save_features(tmp_path / "b.npz", x * [1, -1e30, 1]))


def save_features(path, x):
    np.savez(path, x_train=x, y_train=np.arange(len(x)) % 2)
    return npz(path)
