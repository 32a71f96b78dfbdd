"""IDX files: the originals of MNIST and its kin, packed or not, whole or damaged."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from fedfuse.data.sources.hub import hub
from fedfuse.data.sources.idx import idx
from fedfuse.data.sources.local import local
from fedfuse.errors import DataError

RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (n, 5, 4), dtype=np.uint8) for n in (12, 6))
NAMES = {("train", "images"): TRAIN, ("t10k", "images"): TEST}
NAMES |= {("train", "labels"): np.arange(12) % 3, ("t10k", "labels"): np.arange(6) % 3}


def packed(array: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write(folder: Path, *, suffix: str = "", prefix: str = "", joint: str = "-", **changed) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for (pool, kind), array in NAMES.items():
        name = f"{prefix}{pool}-{kind}{joint}idx{array.ndim}-ubyte{suffix}"
        content = packed(changed.get(f"{pool}_{kind}", array))
        (folder / name).write_bytes(gzip.compress(content) if suffix else content)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("joint", ["-", "."])
@pytest.mark.parametrize("read", [idx, local, lambda path: hub(path=path)])
def test_the_originals_are_read_by_whatever_reads_folders(tmp_path, suffix, joint, read):
    raw = read(write(tmp_path / "MNIST" / "raw", suffix=suffix, joint=joint).parent)
    np.testing.assert_array_equal(raw.train.inputs, TRAIN[:, None])
    np.testing.assert_array_equal(raw.test.inputs, TEST[:, None])
    assert raw.train.labels.tolist() == (np.arange(12) % 3).tolist()
    assert raw.class_names == ("0", "1", "2")
    assert raw.name == "MNIST"


def test_packed_and_unpacked_side_by_side_are_one(tmp_path):
    write(write(tmp_path / "raw", suffix=".gz"))
    assert idx(tmp_path / "raw").fingerprint == idx(write(tmp_path / "other")).fingerprint


def test_labels_that_begin_at_one_are_classes_by_their_number(tmp_path):
    raw = idx(write(tmp_path / "d", train_labels=np.arange(12) % 3 + 1, t10k_labels=np.full(6, 2)))
    assert raw.class_names == ("1", "2", "3")
    assert raw.test.labels.tolist() == [1] * 6


def test_of_several_sets_in_a_folder_a_file_names_one(tmp_path):
    for prefix, labels in (("emnist-letters-", np.arange(12) % 2), ("emnist-digits-", None)):
        more = {} if labels is None else {"train_labels": labels, "t10k_labels": labels[:6]}
        write(tmp_path, prefix=prefix, suffix=".gz", **more)
    with pytest.raises(
        DataError, match=r"more than one data set.*emnist-digits-\*, emnist-letters"
    ):
        idx(tmp_path)
    for read in (idx, local):
        raw = read(tmp_path / "emnist-letters-train-images-idx3-ubyte.gz")
        assert raw.num_classes == 2


def test_images_are_stretched(tmp_path):
    assert idx(write(tmp_path / "d"), image_size=9).train.inputs.shape == (12, 1, 9, 9)


def test_without_test_files_there_is_no_test_pool(tmp_path):
    for file in write(tmp_path / "d").glob("t10k*"):
        file.unlink()
    assert idx(tmp_path / "d").test is None


def damaged(name: str, change):
    def apply(folder: Path) -> None:
        file = folder / name
        change(file)

    return apply


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BAD = {
    "cut off": (IMAGES, lambda f: f.write_bytes(f.read_bytes()[:-3]), r"237 values for an array"),
    "too long": (IMAGES, lambda f: f.write_bytes(f.read_bytes() + b"x"), "more than 240 values"),
    "head alone": (IMAGES, lambda f: f.write_bytes(f.read_bytes()[:6]), "is not a whole IDX file"),
    "empty": (LABELS, lambda f: f.write_bytes(b""), "a file that begins with b''"),
    "text": (LABELS, lambda f: f.write_text("<html>"), r"begins with b'<htm'"),
    "floats": (
        IMAGES,
        lambda f: f.write_bytes(b"\0\0\x0d" + f.read_bytes()[3:]),
        "values of type 0x0d",
    ),
    "huge": (
        IMAGES,
        lambda f: f.write_bytes(b"\0\0\x08\x03" + struct.pack(">III", *[2**31] * 3)),
        r"an array \[2147483648, 2147483648",
    ),
    "damaged gzip": (
        IMAGES,
        lambda f: f.write_bytes(gzip.compress(f.read_bytes())[:-20]),
        "is not a whole IDX file",
    ),
    "other labels": (
        LABELS,
        lambda f: f.write_bytes(packed(np.arange(7))),
        "12 images and 7 labels",
    ),
    "mixed up": (LABELS, lambda f: f.write_bytes(packed(TRAIN)), "does not hold labels"),
    "gone": (LABELS, lambda f: f.unlink(), r"has no labels for training.*t10k-images"),
    "new classes": (
        "t10k-labels-idx1-ubyte",
        lambda f: f.write_bytes(packed(np.full(6, 9))),
        r"classes of which no sample is for training.*label 9",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_set_is_one_message(tmp_path, name):
    file, change, message = BAD[name]
    change(write(tmp_path / "d") / file)
    with pytest.raises(DataError, match=message):
        idx(tmp_path / "d")


@pytest.mark.parametrize("name", ["nowhere", "some.txt", "."])
def test_what_is_no_set_of_idx_files_is_refused(tmp_path, name):
    (tmp_path / "some.txt").write_text("x")
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        idx(tmp_path / name)
