"""Folders of images as people have them: what is read is what was meant, or nothing is."""

import io

import numpy as np
import pytest
from PIL import Image

from fedfuse.data.images import decode_images
from fedfuse.data.sources.image_folder import image_folder
from fedfuse.data.sources.local import local
from fedfuse.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


def fill(*folders, n=2, value=0):
    for k, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(n):
            pixels = np.full((3, 2), value + 10 * k + i, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")


def read(root):
    raw = image_folder(root)
    return len(raw.train), 0 if raw.test is None else len(raw.test), raw.class_names


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training", "testing"),
        ("Train", "TEST"),
        ("train", "dev"),
        ("Training Set", "valid_set"),
        ("trainingData", "evaluation"),
        ("seg_train", "seg_test"),
        ("train-images", "test-images"),
    ],
)
def test_split_folders_under_every_usual_name(root, train, test):
    fill(root / train / "a", root / train / "b", n=3)
    fill(root / test / "a", root / test / "b", n=1)
    assert read(root) == (6, 2, ("a", "b"))


@pytest.mark.parametrize("wrapper", ["mnist_png", "x/y", "archive/seg_train_all/z"])
def test_a_folder_within_the_folder_is_looked_into(root, wrapper):
    fill(root / wrapper / "training" / "0", root / wrapper / "training" / "1")
    fill(root / wrapper / "testing" / "0")
    (root / "README.txt").write_text("x")
    assert read(root) == (4, 2, ("0", "1"))


def test_each_split_may_have_a_wrapper_of_its_own(root):
    for split, n in (("seg_train", 3), ("seg_test", 1)):
        fill(root / split / split / "a", root / split / split / "b", n=n)
    assert read(root) == (6, 2, ("a", "b"))


@pytest.mark.parametrize(
    "left",
    [".ipynb_checkpoints", "__MACOSX", "a/.ipynb_checkpoints", "a/deep/.cache", "a/@eaDir/x",
     "a/__MACOSX/a", "$RECYCLE.BIN"],
)  # fmt: skip
def test_what_systems_leave_behind_is_no_data_at_any_level(root, left):
    fill(root / "a", root / "b", root / left)
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / "._0.png").write_bytes(b"macOS keeps its own notes so")
    assert read(root) == (4, 0, ("a", "b"))


def test_links_are_followed_at_every_level_and_once(root, tmp_path):
    fill(tmp_path / "real" / "b", tmp_path / "more" / "sub")
    fill(root / "a")
    (root / "b").symlink_to(tmp_path / "real" / "b")
    (root / "a" / "more").symlink_to(tmp_path / "more")
    (root / "a" / "again").symlink_to(tmp_path / "more" / "sub")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "above").symlink_to(tmp_path)
    assert read(root) == (6, 0, ("a", "b"))


def test_a_circle_of_links_ends(root):
    root.mkdir()
    (root / "only").mkdir()
    (root / "only" / "up").symlink_to(root)
    with pytest.raises(DataError, match="holds no images"):
        image_folder(root)


def test_numbers_are_classes_in_their_order(root):
    fill(*(root / str(i) for i in range(12)), n=1)
    raw = image_folder(root)
    assert raw.class_names == tuple(map(str, range(12)))
    assert raw.train.inputs[:, 0, 0, 0][np.argsort(raw.train.labels)].tolist() == [
        10 * i for i in range(12)
    ]


def test_a_class_may_have_the_name_of_a_split(root):
    fill(root / "bus", root / "car", root / "train")
    assert read(root)[2] == ("bus", "car", "train")
    fill(root / "test tube", root / "train station" / "2023")
    assert read(root)[2] == ("bus", "car", "test tube", "train", "train station")


def test_one_name_in_two_forms_of_unicode_is_one_class(root):
    fill(root / "train" / "Z\u00e4hler", root / "train" / "b", root / "test" / "Za\u0308hler")
    assert read(root) == (4, 2, ("Z\u00e4hler", "b")) or read(root)[2] == ("b", "Z\u00e4hler")
    fill(root / "train" / "Za\u0308hler")
    with pytest.raises(DataError, match="name that cannot be used"):
        image_folder(root)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train/a", "train/b", "cat", "dog"), "splits beside other folders"),
        (("train/a", "training/a", "test/a"), "not clear which folder"),
        (("test/a", "val/a"), "not clear which folder"),
        (("train", "test1"), "images without a class"),
        (("train",), "images without a class"),
        (("train/a", "train/b", "test"), "images without a class"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), "is split inside"),
        (("train/a", "train/b", "test/A"), "classes that .* has not: got A, allowed: a, b"),
        ((".",), "got images, without a class"),
    ],
)
def test_what_can_be_understood_in_two_ways_is_refused(root, folders, message):
    fill(*(root / folder for folder in folders))
    with pytest.raises(DataError, match=message):
        image_folder(root)


def test_files_that_would_go_missing_quietly_are_refused(root, tmp_path):
    fill(root / "a", root / "b")
    odd = root / "a" / "phone.HEIC"
    odd.write_bytes(b"x")
    with pytest.raises(DataError, match="a kind that is not read"):
        image_folder(root)
    odd.unlink()
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="leads nowhere"):
        image_folder(root)
    (root / "a" / "gone.png").unlink()
    (root / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="leads nowhere"):
        image_folder(root)
    (root / "gone").unlink()
    (root / "file").write_text("a file where a folder is expected")
    assert read(root) == (4, 0, ("a", "b"))
    with pytest.raises(DataError, match="is a file, and no folder"):
        image_folder(root / "file")


def test_a_pipe_called_like_an_image_is_not_waited_for(root):
    import os

    fill(root / "a", root / "b")
    os.mkfifo(root / "a" / "x.png")
    with pytest.raises(DataError, match="no ordinary file"):
        image_folder(root)


def test_local_sees_no_hidden_parquet_file(root):
    fill(root / "a", root / "b")
    (root / ".cache").mkdir()
    (root / ".cache" / "train.parquet").write_bytes(b"x")
    assert local(root).class_names == ("a", "b")


def test_a_folder_of_both_kinds_is_refused_where_either_could_be_meant(root):
    fill(root / "a", root / "b")
    (root / "train.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match="either could be meant: got a/0"):
        local(root)


def test_a_path_that_cannot_be_looked_at_is_one_message(root):
    from fedfuse.errors import PartitionError
    from fedfuse.partition.fixed import read_partition

    root.mkdir()
    with pytest.raises(DataError, match="cannot be read: got File name too long"):
        image_folder("x" * 300)
    with pytest.raises(PartitionError, match="File name too long"):
        read_partition(root / ("x" * 300 + ".json"))
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(DataError, match="cannot be read"):
        image_folder(root / "loop")


def jpeg(pixels, orientation, fmt):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, fmt, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda x: x), (2, lambda x: x[:, ::-1]), (3, lambda x: x[::-1, ::-1]),
     (6, lambda x: np.rot90(x, -1)), (8, lambda x: np.rot90(x))],
)  # fmt: skip
def test_pictures_are_turned_as_the_camera_was_held(fmt, orientation, upright):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    pixels = np.stack([pixels] * 3, axis=2) if fmt == "WEBP" else pixels
    data = jpeg(pixels, orientation, fmt)
    out = decode_images(1, lambda _: data, lambda _: "x")[0].transpose(1, 2, 0)
    expected = upright(pixels).reshape(*upright(pixels).shape[:2], -1)
    assert out.shape == expected.shape
    if fmt != "WEBP":  # which loses a little
        np.testing.assert_array_equal(out, expected)


def test_a_shape_in_the_transparency_alone_is_refused():
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:2, :, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG")
    with pytest.raises(DataError, match="transparency alone"):
        decode_images(1, lambda _: buffer.getvalue(), lambda _: "x")


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("L", (3, 2), value) for value in (10, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    out = decode_images(1, lambda _: buffer.getvalue(), lambda _: "x")
    assert np.unique(out).tolist() == [10]


def test_more_pixels_than_memory_is_one_message(monkeypatch):
    monkeypatch.setattr("fedfuse.data.images.machine_memory", lambda: 100)
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    with pytest.raises(DataError, match=r"larger than this machine's memory.*image_size"):
        decode_images(2, lambda _: buffer.getvalue(), lambda _: "x")
