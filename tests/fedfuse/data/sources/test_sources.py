import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedfuse.data import images
from fedfuse.data.sources import hub as hub_module
from fedfuse.data.sources import mnist5k as mnist5k_module
from fedfuse.data.sources.hub import hub
from fedfuse.data.sources.image_folder import image_folder
from fedfuse.data.sources.local import local
from fedfuse.data.sources.mnist5k import mnist5k
from fedfuse.data.sources.npz import npz
from fedfuse.data.sources.parquet import parquet
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import DataError, ParameterError

SHARED = Path(__file__).parents[5] / "shared" / "data"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def digits(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(n, 6, 5), dtype=np.uint8)


def table(n=6, seed=0, image="image", label="label", labels=None, names=None, struct=True):
    blobs = [png(p) for p in digits(n, seed)]
    column = [{"bytes": b, "path": None} for b in blobs] if struct else blobs
    made = pa.table({image: column, label: labels if labels is not None else np.arange(n) % 3})
    if names:
        features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": names}}
        meta = {"huggingface": json.dumps({"info": {"features": features}})}
        made = made.replace_schema_metadata(meta)
    return made


def write(made, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path)


# mnist5k -------------------------------------------------------------------------------------


def test_mnist5k_is_real_digits_balanced_and_known():
    raw = mnist5k()
    assert raw.train.inputs.shape == (5000, 1, 28, 28)
    assert raw.train.inputs.dtype == np.uint8
    assert np.bincount(raw.train.labels).tolist() == [500] * 10
    assert raw.test is None
    assert raw.mean[0] == pytest.approx(0.1313, abs=1e-3)
    # Digits of one class look more like each other than like the rest: pixels and labels belong
    # together. (The nearest of ten class means finds four in five.)
    x = raw.train.inputs.reshape(5000, -1).astype(np.float64)
    means = np.stack([x[raw.train.labels == c].mean(axis=0) for c in range(10)])
    nearest = ((x**2).sum(1)[:, None] - 2 * x @ means.T + (means**2).sum(1)).argmin(axis=1)
    assert (nearest == raw.train.labels).mean() > 0.78


def test_mnist5k_are_the_digits_that_results_were_made_with():
    assert mnist5k().fingerprint == "cd3b39a3f097d28bbe3f96c07dc8d49c"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"images": "e"}', b'{"images": "eJxjYAAAAAIAAQ=="}', b"\xff"]
)
def test_a_damaged_mnist5k_is_named(monkeypatch, tmp_path, content):
    bad = tmp_path / "mnist5k.json"
    bad.write_bytes(content)
    monkeypatch.setattr(mnist5k_module, "FILE", bad)
    with pytest.raises(DataError, match=r"is damaged(?s:.*)Reinstall fedfuse"):
        mnist5k()


# parquet -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        ("train.parquet", "test.parquet"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("plain/train/0000.parquet", "plain/validation/0000.parquet"),
        ("Train_a.parquet", "val.parquet"),
        ("TRAIN.PARQUET", "TEST.parquet"),
        ("training.parquet", "testing.parquet"),
        ("train.parquet", "dev.parquet"),
        ("Training/0.parquet", "valid/0.parquet"),
        ("mnist_train.parquet", "mnist_test.parquet"),
        ("test-beds/train.parquet", "test-beds/eval.parquet"),
    ],
)
def test_every_hub_layout_is_read(tmp_path, files):
    write(table(), tmp_path / "set" / files[0])
    write(table(4, seed=1), tmp_path / "set" / files[1])
    raw = parquet(tmp_path / "set")
    assert raw.name == "set"
    np.testing.assert_array_equal(raw.train.inputs[:, 0], digits(6))
    np.testing.assert_array_equal(raw.test.inputs[:, 0], digits(4, seed=1))
    assert raw.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert raw.class_names == ("0", "1", "2")


def test_shards_are_joined_in_order_and_test_beats_validation(tmp_path):
    for i in range(3):
        write(table(3, seed=i), tmp_path / f"train-0000{i}-of-00003.parquet")
    write(table(3, seed=8), tmp_path / "validation.parquet")
    write(table(3, seed=9), tmp_path / "test.parquet")
    raw = parquet(tmp_path)
    expected = np.concatenate([digits(3, seed=i) for i in range(3)])
    np.testing.assert_array_equal(raw.train.inputs[:, 0], expected)
    np.testing.assert_array_equal(raw.test.inputs[:, 0], digits(3, seed=9))


def test_without_a_test_split_there_is_no_test_pool(tmp_path):
    write(table(), tmp_path / "train.parquet")
    assert parquet(tmp_path).test is None


@pytest.mark.parametrize(
    ("made", "kwargs"),
    [
        (lambda: table(image="img"), {}),
        (lambda: table(label="fine_label").append_column("coarse_label", pa.array([0] * 6)), {}),
        (lambda: table(struct=False), {}),
        (lambda: table(image="picture", label="kind", names=["a", "b", "c"]), {}),
        (lambda: table(image="picture"), {}),
        (lambda: table(label="kind"), {"label_column": "kind"}),
        (
            lambda: table().append_column("other", pa.array([b""] * 6)),
            {"image_column": "image"},
        ),
    ],
)
def test_columns_are_found_or_named(tmp_path, made, kwargs):
    write(made(), tmp_path / "train.parquet")
    raw = parquet(tmp_path, **kwargs)
    assert raw.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(raw.train.inputs[:, 0], digits(6))


def test_class_names_come_from_the_metadata(tmp_path):
    write(table(names=["ant", "bee", "cat", "dog"]), tmp_path / "train.parquet")
    raw = parquet(tmp_path)
    assert raw.class_names == ("ant", "bee", "cat", "dog")
    assert raw.num_classes == 4


def test_image_size_stretches_and_has_its_own_cache_entry(tmp_path):
    write(table(), tmp_path / "train.parquet")
    assert parquet(tmp_path).train.inputs.shape == (6, 1, 6, 5)
    assert parquet(tmp_path, image_size=9).train.inputs.shape == (6, 1, 9, 9)
    assert parquet(tmp_path).train.inputs.shape == (6, 1, 6, 5)


def test_a_changed_file_is_decoded_again_and_an_unchanged_one_is_not(tmp_path, monkeypatch):
    write(table(), tmp_path / "train.parquet")
    before = parquet(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(images, "_decode", None)
        assert parquet(tmp_path).fingerprint == before.fingerprint
    write(table(seed=5), tmp_path / "train.parquet")
    after = parquet(tmp_path)
    np.testing.assert_array_equal(after.train.inputs[:, 0], digits(6, seed=5))
    assert after.fingerprint != before.fingerprint


def test_a_relative_path_counts_from_the_current_folder(tmp_path, monkeypatch):
    write(table(), tmp_path / "here" / "train.parquet")
    monkeypatch.chdir(tmp_path)
    assert parquet("here").name == "here"
    assert len(hub("a/b", path="here").train) == 6


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda p: None, "No train*.parquet in"),
        (lambda p: (p / "train.csv").write_text("x"), "no parquet file"),
        (lambda p: write(table(), p / "test.parquet"), "got test.parquet"),
        (lambda p: write(table(), p / "everything.parquet"), "got everything.parquet"),
        (lambda p: (p / "train.parquet").write_bytes(b"PAR1 nonsense"), "not a readable parquet"),
        (lambda p: write(table(label="kind"), p / "train.parquet"), "columns image, kind"),
        (
            lambda p: write(
                table(image="kind", struct=False).select(["label"]), p / "train.parquet"
            ),
            "No image column in",
        ),
        (lambda p: write(table(labels=list("abcabc")), p / "train.parquet"), "integer class ids"),
        (lambda p: write(table(labels=np.arange(6.0)), p / "train.parquet"), "got type double"),
        (lambda p: write(table(labels=[0, 1, None, 0, 1, 2]), p / "train.parquet"), "1 empty"),
        (lambda p: write(table(labels=[0, 1, -1, 0, 1, 2]), p / "train.parquet"), "marked -1"),
        (lambda p: write(table().slice(0, 0), p / "train.parquet"), "No rows in"),
        (
            lambda p: write(pa.table({"image": [1, 2], "label": [0, 1]}), p / "train.parquet"),
            "does not hold encoded images",
        ),
        (
            lambda p: write(
                pa.table({"image": [None, b"x"], "label": [0, 1]}), p / "train.parquet"
            ),
            "Row 0 of column 'image'",
        ),
        (
            lambda p: write(pa.table({"image": [b"no image"], "label": [0]}), p / "train.parquet"),
            "row 0 of the train split",
        ),
        (lambda p: [write(table(), p / c / "train.parquet") for c in "ab"], "split files in a, b"),
        (
            lambda p: [write(table(), p / f"{s}.parquet") for s in ("train", "extra")],
            "split of extra.parquet",
        ),
    ],
)
def test_bad_folders_end_in_one_clear_error(tmp_path, build, words):
    root = tmp_path / "set"
    root.mkdir()
    build(root)
    with pytest.raises(DataError) as caught:
        parquet(root)
    assert words in str(caught.value)


def test_a_missing_path_a_file_and_a_wrong_column_name(tmp_path):
    with pytest.raises(DataError, match=r"No folder .*nowhere.*dataset.path"):
        parquet(tmp_path / "nowhere")
    write(table(), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="is not a folder"):
        parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"No column 'lable'.*columns image, label"):
        parquet(tmp_path, label_column="lable")


def test_a_parquet_file_damaged_in_its_middle(tmp_path):
    write(table(60), tmp_path / "train.parquet")
    data = bytearray((tmp_path / "train.parquet").read_bytes())
    data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
    (tmp_path / "train.parquet").write_bytes(data)
    with pytest.raises(DataError):
        parquet(tmp_path)
    assert not list((tmp_path / "cache").glob("*"))


def test_local_parquet_never_opens_the_paths_it_names(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(digits(1)[0]))
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = pa.array([{"bytes": None, "path": str(tmp_path / "secret.png")}], kind)
    write(pa.table({"image": rows, "label": [0]}), tmp_path / "set" / "train.parquet")
    with pytest.raises(DataError, match="Row 0"):
        parquet(tmp_path / "set")


# hub -----------------------------------------------------------------------------------------


def test_hub_loads_through_datasets_and_agrees_with_the_local_copy(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    write(table(names=["a", "b", "c"]), tmp_path / "set" / "train.parquet")
    write(table(3, seed=1, names=["a", "b", "c"]), tmp_path / "set" / "test.parquet")
    asked = []

    def load(name, config, revision):
        asked.append((name, config, revision))
        files = {s: str(tmp_path / "set" / f"{s}.parquet") for s in ("train", "test")}
        return real("parquet", data_files=files, cache_dir=str(tmp_path / "hf"))

    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", load)
    raw = hub("owner/small", revision="main")
    assert asked == [("owner/small", None, "main")]
    assert raw.name == "small"
    assert raw.class_names == ("a", "b", "c")
    assert raw.fingerprint == parquet(tmp_path / "set").fingerprint
    np.testing.assert_array_equal(raw.test.inputs[:, 0], digits(3, seed=1))
    with monkeypatch.context() as patch:
        patch.setattr(images, "_decode", None)
        assert hub("owner/small", revision="main").fingerprint == raw.fingerprint


def test_hub_reads_images_that_lie_beside_the_table(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    for i, pixels in enumerate(digits(4)):
        (tmp_path / f"{i}.png").write_bytes(png(pixels))
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"])
    )
    columns = {"image": [str(tmp_path / f"{i}.png") for i in range(4)], "label": [0, 1, 0, 1]}
    train = datasets.Dataset.from_dict(columns, features=features)
    found = datasets.DatasetDict(train=train)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: found)
    raw = hub("x")
    np.testing.assert_array_equal(raw.train.inputs[:, 0], digits(4))
    assert raw.test is None


@pytest.mark.parametrize("error", [ConnectionError("Couldn't reach 'x' on the Hub"), OSError()])
def test_no_network_names_dataset_path(monkeypatch, error):
    datasets = pytest.importorskip("datasets")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"cannot be loaded.*set dataset.path to a folder"):
        hub("owner/x")


def test_a_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install .*\[hub\]"):
        hub("owner/x")


def test_a_local_copy_needs_no_hub_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    write(table(), tmp_path / "train.parquet")
    assert hub("ylecun/mnist", path=tmp_path).name == "mnist"
    with pytest.raises(ParameterError, match="'name' parameter of hub"):
        hub()


def test_a_hub_set_without_train_split(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "datasets", type("M", (), {"load_dataset": lambda *a, **k: {"test": 1}})
    )
    with pytest.raises(DataError, match="no train split"):
        hub_module.hub("x")


# npz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected", "last"),
    [
        ((6, 4, 5), (6, 1, 4, 5), False),
        ((6, 4, 5, 3), (6, 3, 4, 5), True),
        ((6, 4, 5, 1), (6, 1, 4, 5), True),
        ((6, 3, 4, 5), (6, 3, 4, 5), False),
        ((6, 3, 4, 3), (6, 3, 3, 4), True),  # both could be meant
    ],
)
def test_npz_images_in_every_layout(tmp_path, shape, expected, last):
    x = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(6) % 2, x_test=x, y_test=[0] * 6)
    raw = npz(tmp_path / "d.npz")
    assert raw.name == "d"
    assert raw.train.inputs.shape == expected
    channels_last = raw.train.inputs.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(channels_last if last else raw.train.inputs.reshape(shape), x)
    assert len(raw.test) == 6
    assert raw.num_classes == 2


def test_npz_features_other_names_and_class_names(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 4))
    y = (np.arange(6, dtype=np.uint8) % 2)[:, None]
    np.savez_compressed(
        tmp_path / "m.npz", train_images=x, train_labels=y, class_names=np.array(["no", "yes"])
    )
    raw = npz(tmp_path / "m.npz", name="medical")
    np.testing.assert_array_equal(raw.train.inputs, x.astype(np.float32))
    assert raw.train.labels.tolist() == [0, 1] * 3
    assert raw.class_names == ("no", "yes")
    assert raw.mean == ()


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_pickled_objects_are_refused_and_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.array([Bomb()], dtype=object)
    np.savez("d.npz", x_train=x, y_train=[0])
    with pytest.raises(DataError, match="pickled objects are refused"):
        npz("d.npz")
    Path("p.npz").write_bytes(b"\x80\x04\x95")
    with pytest.raises(DataError, match="pickled objects are refused"):
        npz("p.npz")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": [1]}, "got arrays a"),
        ({"x": np.zeros((3, 4)), "y": [0.0, 1.0, 1.0]}, "integer class ids"),
        ({"x": np.zeros((3, 4)), "y": np.zeros((3, 2), int)}, "integer class ids"),
        ({"x": np.zeros((3, 4, 4), int), "y": [0, 1, 1]}, "neither images nor features"),
        ({"x": np.zeros((3, 4, 4, 2), np.uint8), "y": [0, 1, 1]}, "neither images nor features"),
        ({"x": np.full((3, 4), np.nan), "y": [0, 1, 1]}, "not finite"),
        ({"x": np.zeros((3, 4)), "y": [0, 1]}, "one integer label per input"),
        ({"x": np.zeros((3, 4)), "y": [0, 1, -1]}, "labels from -1"),
    ],
)
def test_bad_npz_contents(tmp_path, arrays, words):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=words):
        npz(tmp_path / "d.npz")


def test_bad_npz_files(tmp_path):
    with pytest.raises(DataError, match="No file"):
        npz(tmp_path / "none.npz")
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match="cannot be read"):
        npz(tmp_path / "t.npz")
    np.save(tmp_path / "s.npy", np.zeros(3))
    (tmp_path / "s.npy").rename(tmp_path / "s.npz")
    with pytest.raises(DataError, match="a single array"):
        npz(tmp_path / "s.npz")
    (tmp_path / "e.npz").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        npz(tmp_path / "e.npz")


# image_folder --------------------------------------------------------------------------------


def fill(folder, n=2, seed=0):
    folder.mkdir(parents=True)
    for i, pixels in enumerate(digits(n, seed)):
        (folder / f"{i}.png").write_bytes(png(pixels))


def test_image_folder_with_and_without_split_level(tmp_path):
    fill(tmp_path / "flat" / "bee", 3, seed=1)
    fill(tmp_path / "flat" / "ant", 2)
    raw = image_folder(tmp_path / "flat")
    assert raw.class_names == ("ant", "bee")
    assert raw.train.labels.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(raw.train.inputs[2:, 0], digits(3, seed=1))
    assert raw.test is None
    for split, seed in (("train", 0), ("test", 5)):
        fill(tmp_path / "two" / split / "ant", seed=seed)
        fill(tmp_path / "two" / split / "bee", seed=seed + 1)
    raw = image_folder(tmp_path / "two")
    assert len(raw.train) == len(raw.test) == 4
    np.testing.assert_array_equal(raw.test.inputs[:2, 0], digits(2, seed=5))


def test_image_folder_sees_a_changed_and_a_moved_image(tmp_path):
    fill(tmp_path / "d" / "ant")
    fill(tmp_path / "d" / "bee", seed=1)
    first = image_folder(tmp_path / "d").fingerprint
    (tmp_path / "d" / "ant" / "0.png").rename(tmp_path / "d" / "bee" / "9.png")
    moved = image_folder(tmp_path / "d")
    assert moved.train.labels.tolist() == [0, 1, 1, 1]
    (tmp_path / "d" / "bee" / "9.png").write_bytes(png(digits(1, seed=7)[0]))
    assert len({first, moved.fingerprint, image_folder(tmp_path / "d").fingerprint}) == 3


def test_bad_image_folders(tmp_path):
    with pytest.raises(DataError, match="No folder"):
        image_folder(tmp_path / "none")
    (tmp_path / "e").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        image_folder(tmp_path / "e")
    (tmp_path / "e" / "ant").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        image_folder(tmp_path / "e")
    fill(tmp_path / "s" / "train" / "ant")
    fill(tmp_path / "s" / "test" / "wasp")
    with pytest.raises(DataError, match=r"classes that .*train has not: got wasp"):
        image_folder(tmp_path / "s")
    fill(tmp_path / "d" / "ant")
    (tmp_path / "d" / "ant" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot be decoded .*1\.png"):
        image_folder(tmp_path / "d")


# synthetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "features"])
def test_synthetic_is_seeded_balanced_and_learnable(kind):
    raw = synthetic(kind=kind)
    assert raw.fingerprint == synthetic(kind=kind).fingerprint
    assert raw.fingerprint != synthetic(kind=kind, seed=1).fingerprint
    assert np.bincount(raw.train.labels).tolist() == [200] * 10
    assert np.bincount(raw.test.labels).tolist() == [50] * 10
    x = raw.train.inputs.reshape(2000, -1).astype(np.float64)
    means = np.stack([x[raw.train.labels == c].mean(axis=0) for c in range(10)])
    test = raw.test.inputs.reshape(500, -1).astype(np.float64)
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == raw.test.labels).mean() > 0.95
    with pytest.raises(ValueError, match="read-only"):
        raw.train.inputs[0] = 0


def test_synthetic_shapes():
    assert synthetic(channels=3, image_size=5).train.inputs.shape == (2000, 3, 5, 5)
    assert synthetic(kind="features", num_features=3).test.inputs.shape == (500, 3)
    assert synthetic(num_test=0).test is None


@pytest.mark.parametrize(
    "change",
    [
        {"num_train": 0},
        {"num_test": -1},
        {"num_classes": 1},
        {"num_classes": True},
        {"kind": "sound"},
        {"image_size": 2.5},
        {"channels": 2},
        {"num_features": 0},
        {"noise": float("nan")},
        {"noise": -0.1},
    ],
)
def test_synthetic_refuses_bad_parameters(change):
    with pytest.raises(ParameterError, match=f"'{next(iter(change))}' parameter of synthetic"):
        synthetic(**change)


# real data beside the project ----------------------------------------------------------------


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not beside the project")
def test_a_real_hub_set_from_a_local_copy(tmp_path, monkeypatch):
    # The test split alone, as the training pool: quick, and it has everything a file can have.
    root = tmp_path / "cifar10"
    root.mkdir()
    (root / "train.parquet").symlink_to(SHARED / "cifar10" / "test.parquet")
    raw = hub("uoft-cs/cifar10", path=root)
    assert raw.train.inputs.shape == (10000, 3, 32, 32)
    assert raw.class_names[:2] == ("airplane", "automobile")
    np.testing.assert_allclose(raw.mean, (0.4914, 0.4822, 0.4465), atol=0.01)
    np.testing.assert_allclose(raw.std, (0.2470, 0.2435, 0.2616), atol=0.01)


@pytest.mark.parametrize("kind", ["image", "features"])
def test_a_large_synthetic_set_is_mapped_from_the_cache_and_is_the_same(
    kind, monkeypatch, tmp_path
):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path))
    made = synthetic(kind=kind, num_train=5000)  # more than one chunk
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("fedfuse.data.sources.synthetic.SMALL", 0)
    mapped = synthetic(kind=kind, num_train=5000)
    assert isinstance(mapped.train.inputs, np.memmap)
    assert mapped.fingerprint == made.fingerprint
    assert len(list(tmp_path.iterdir())) == 1
    other = synthetic(kind=kind, num_train=5000, noise=0.5)
    assert other.fingerprint != made.fingerprint


# values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"), [(1e300, "1e\\+300"), (np.inf, "inf"), (np.nan, "nan"), (-4e38, "-4e\\+38")]
)
@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_values_that_are_no_finite_float32_are_named(tmp_path, value, shown, dtype):
    x = np.zeros((5000, 4), dtype=dtype)
    x[4321, 2] = value
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(5000) % 2)
    with pytest.raises(DataError, match=rf"got {shown} in row 4321, column 2, counted from 0"):
        npz(tmp_path / "a.npz")


def test_the_largest_float32_is_taken_and_half_precision_widened(tmp_path):
    x = np.full((4, 2), np.finfo(np.float32).max, dtype=np.float64)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=[0, 1, 0, 1])
    assert (npz(tmp_path / "a.npz").train.inputs == np.finfo(np.float32).max).all()
    np.savez(tmp_path / "h.npz", x_train=x[:, :1].clip(0, 3).astype(np.float16), y_train=[0, 1] * 2)
    assert npz(tmp_path / "h.npz").train.inputs.tolist() == [[3.0]] * 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6, 4, 5, 3), (6, 3, 4, 5)), ((6, 4, 5, 1), (6, 1, 4, 5)), ((6, 3, 4, 5), (6, 3, 4, 5)),
     ((6, 4, 5), (6, 4, 5)), ((6, 4, 5, 7), (6, 4, 5, 7)), ((6, 3, 4, 3), (6, 3, 3, 4))],
)  # fmt: skip
def test_float_images_with_channels_last_become_channels_first(tmp_path, shape, expected):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(6) % 2)
    found = npz(tmp_path / "d.npz").train.inputs
    assert found.shape == expected
    turned = len(shape) == 4 and shape[3] in (1, 3)
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1) if turned else found, x)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"a,b\n1,2\n", "dataset=table"),
        ("t.pkl", b"\x80\x04", "Unpickle it where you trust it"),
        ("t.pt", b"\x80\x02", "torch"),
        ("t.mat", b"MATLAB 5.0", "scipy.io.loadmat"),
        ("t.h5", b"\x89HDF", "h5py"),
        ("t.parquet", b"PAR1", "dataset=hub"),
        ("train-images-idx3-ubyte", b"\x00\x00\x08\x03", "dataset=idx"),
        ("t.npz", b"\x1f\x8b", "numpy.savez"),
        ("t.npz", b"", "an empty file"),
    ],
)
def test_a_file_of_another_kind_is_told_how_to_convert_it(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"not an \.npz file") as caught:
        npz(tmp_path / name)
    assert words in str(caught.value)
    assert any(way in str(caught.value) for way in ("numpy.savez", "=hub", "=table", "=idx"))
    assert "allow_pickle" not in str(caught.value)


def test_objects_in_an_array_that_is_not_needed_do_not_matter(tmp_path):
    y = np.arange(6) % 2
    objects = np.array([{}, 1], dtype=object)
    np.savez(tmp_path / "a.npz", x_train=np.zeros((6, 2)), y_train=y, meta=objects)
    assert len(npz(tmp_path / "a.npz").train) == 6
    np.savez(tmp_path / "b.npz", x_train=np.zeros((6, 2)), y_train=y.astype(object))
    with pytest.raises(DataError, match=r"'y_train' of .* holds Python objects") as caught:
        npz(tmp_path / "b.npz")
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array(list("aabbcc")), "save names as class_names"),
        (np.eye(3)[[0, 1, 2] * 2], "argmax"),
        (np.arange(6.0), "numpy.unique"),
        (np.arange(6) > 2, "numpy.unique"),
    ],
)
def test_labels_of_another_kind_are_told_how_to_convert_them(tmp_path, labels, words):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((6, 2)), y_train=labels)
    with pytest.raises(DataError, match="does not hold integer class ids") as caught:
        npz(tmp_path / "a.npz")
    assert words in str(caught.value)


@pytest.mark.parametrize("path", [2024, None, "", True, "a\0b"])
def test_a_path_that_is_no_text_is_one_message(path):
    for read in (npz, image_folder, parquet):
        with pytest.raises(DataError, match="must be text"):
            read(path)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("raw/train-images-idx3-ubyte", "dataset=idx"),
        ("table.csv", "dataset=table"),
    ],
)
@pytest.mark.parametrize("read", [parquet, image_folder])
def test_a_folder_of_another_kind_is_told_how_to_convert_it(tmp_path, file, words, read):
    (tmp_path / "set" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "set" / file).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "set")
    assert words in str(caught.value)


def test_a_table_without_images_is_told_what_is_read(tmp_path):
    write(pa.table({"x": [0.5, 1.5], "label": [0, 1]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"No image column in .*dataset=table"):
        parquet(tmp_path)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((6, 4, 5, 4), np.uint8), "transparency"),
        (np.zeros((6, 20), np.uint8), "reshape"),
        (np.zeros((6, 4, 5), bool), "255"),
        (np.zeros((6, 4, 5), np.uint16), "astype"),
        (np.zeros(6), "one row a sample"),
        (np.zeros((6, 2), complex), "astype"),
        (np.array([b"a"] * 6), "numpy.char.decode"),
    ],
)
def test_inputs_of_another_kind_are_told_how_to_convert_them(tmp_path, x, words):
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(6) % 2)
    with pytest.raises(DataError, match="neither images nor features") as caught:
        npz(tmp_path / "a.npz")
    assert words in str(caught.value)


def test_left_behind_and_linked_parquet_files(tmp_path):
    write(table(), tmp_path / "real" / "train.parquet")
    root = tmp_path / "set"
    root.mkdir()
    (root / "data").symlink_to(tmp_path / "real")
    (root / "data" / "up").symlink_to(root)
    for left in ("__MACOSX/train.parquet", ".ipynb_checkpoints/train.parquet"):
        (root / left).parent.mkdir()
        (root / left).write_bytes(b"x")
    assert len(parquet(root).train) == 6


@pytest.mark.parametrize(
    ("splits", "taken"),
    [(["Train", "TEST"], ["Train", "TEST"]), (["train", "dev"], ["train", "dev"]),
     (["train", "validation", "test"], ["train", "test"]), (["train", "extra"], ["train"])],
)  # fmt: skip
def test_splits_of_the_hub_under_every_usual_name(monkeypatch, splits, taken):
    found = dict(zip(splits, splits, strict=True))
    fake = type("M", (), {"load_dataset": lambda *a, **k: found})
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert list(hub_module._load("x", None, None).values()) == taken
    found["training"] = "training"
    with pytest.raises(DataError, match="are not clear"):
        hub_module._load("x", None, None)


def test_npz_validation_arrays_and_halves_of_a_split(tmp_path):
    x, y = np.zeros((6, 2)), np.arange(6) % 2
    np.savez(tmp_path / "v.npz", x_train=x, y_train=y, x_val=x[:2], y_val=y[:2])
    assert len(npz(tmp_path / "v.npz").test) == 2
    both = {"val_images": x[:2], "val_labels": y[:2], "test_images": x[:4], "test_labels": y[:4]}
    np.savez(tmp_path / "b.npz", train_images=x, train_labels=y, **both)
    assert len(npz(tmp_path / "b.npz").test) == 4
    np.savez(tmp_path / "h.npz", x_train=x, y_train=y, x_test=x)
    with pytest.raises(DataError, match="'x_test' without 'y_test'"):
        npz(tmp_path / "h.npz")


def test_labels_beyond_the_integers_and_empty_shards(tmp_path):
    big = pa.array([2**63, 1, 2] * 2, pa.uint64())
    write(table(labels=big), tmp_path / "big" / "train.parquet")
    with pytest.raises(DataError, match="no class id: got 9223372036854775808"):
        parquet(tmp_path / "big")
    write(table(names=["a", "b", "c"]), tmp_path / "e" / "train-0.parquet")
    write(table().slice(0, 0), tmp_path / "e" / "train-1.parquet")
    assert parquet(tmp_path / "e").class_names == ("a", "b", "c")


def medmnist(folder, **changed):
    """Write a set as MedMNIST's archives have them: three splits, labels [N, 1]."""
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 12), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 3)[:, None]
    np.savez(folder / "pathmnist.npz", **arrays | changed)
    return folder / "pathmnist.npz"


@pytest.mark.parametrize("read", [npz, local])
def test_an_archive_of_medmnist_is_read_as_it_is(tmp_path, read):
    raw = read(medmnist(tmp_path))
    assert raw.train.inputs.shape == (12, 3, 8, 8)
    assert raw.train.labels.tolist() == [0, 1, 2] * 4
    assert len(raw.test) == 6, "its test split, beside which the validation split is not used"
    assert (raw.name, raw.num_classes) == ("pathmnist", 3)


def test_what_medmnist_has_beside_classes_of_images_is_refused(tmp_path):
    several = np.array([[0, 1, 1], [0, 0, 0]] * 6, dtype=np.uint8)
    with pytest.raises(DataError, match=r"several labels for a sample.*y = y\[:, 0\]"):
        npz(medmnist(tmp_path, train_labels=several))
    with pytest.raises(DataError, match=r"uint8 \[12, 8, 8, 8\].*takes volumes for features"):
        npz(medmnist(tmp_path, train_images=np.zeros((12, 8, 8, 8), np.uint8)))
    path = medmnist(tmp_path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"cannot be read.*Copy it or write it again"):
        npz(path)
