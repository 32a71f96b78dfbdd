"""Data files of strangers: bombs and lies are one message, and nothing in them is run."""

import io
import pickle
import zipfile
import zlib

import numpy as np
import pytest

from fedfuse.data.images import decode_images
from fedfuse.data.sources import npz as source
from fedfuse.data.sources.npz import npz
from fedfuse.errors import DataError, PartitionError
from fedfuse.partition.fixed import read_partition


def png(width, height):
    """Return a PNG that announces a size and holds next to nothing."""

    def chunk(kind, body):
        head = len(body).to_bytes(4, "big") + kind + body
        return head + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress(b"\x00" * 100)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_picture_that_announces_gigabytes_is_not_decoded():
    with pytest.raises(DataError, match="pixels, more than"):
        decode_images(1, lambda _: png(9_000, 9_000), lambda _: "row 0")


class Bomb:
    def __reduce__(self):
        import os

        return os.abort, ()


def archive(folder, name, body):
    path = folder / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, body)
    return path


def announcing(shape):
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.parametrize("read", [npz, read_partition])
@pytest.mark.parametrize("body", [announcing((2**60,)), announcing((2**40, 2)) + b"1234", b"\x00"])
def test_an_archive_that_announces_more_than_it_holds(read, body, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))
    with pytest.raises((DataError, PartitionError)):
        read(archive(tmp_path, "x_train.npy", body))


@pytest.mark.parametrize("read", [npz, read_partition])
def test_pickled_objects_are_never_loaded(read, tmp_path):
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(file, header)
    body = file.getvalue() + pickle.dumps(Bomb())
    with pytest.raises((DataError, PartitionError)):
        read(archive(tmp_path, "x_train.npy", body))


def test_an_archive_that_unpacks_to_far_more_than_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MOST_UNPACKED", 1000)
    with pytest.raises(DataError, match="is not unpacked"):
        npz(archive(tmp_path, "x_train.npy", announcing((100_000,)) + bytes(100_000)))
