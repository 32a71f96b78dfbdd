"""Data files of strangers: bombs and lies are one message, and nothing in them is run."""

import io
import pickle
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedfuse.data.images import FORMATS, decode_images
from fedfuse.data.sources import npz as source
from fedfuse.data.sources import parquet as parquet_source
from fedfuse.data.sources.image_folder import image_folder
from fedfuse.data.sources.npz import npz
from fedfuse.data.sources.parquet import parquet
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


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """Return the file that a program called gs would leave behind, first in the path."""
    from PIL import EpsImagePlugin

    told = tmp_path / "gs was started"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho x > '{told}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # look for it again
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))
    return told


def test_a_picture_of_a_page_starts_no_program(ghostscript, tmp_path):
    folder = tmp_path / "set"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "0.png").write_bytes(EPS)
    with pytest.raises(DataError, match=r"cannot be decoded.*begins with b'%!PS-Ado'"):
        image_folder(folder)
    pq.write_table(pa.table({"image": [EPS], "label": [0]}), folder / "train.parquet")
    with pytest.raises(DataError, match="cannot be decoded"):
        parquet(folder)
    assert not ghostscript.exists()


def test_only_raster_formats_that_are_named_are_decoded():
    from PIL import Image

    assert set(FORMATS) == {"BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"}
    for kind in ("ICO", "PCX", "TGA"):
        buffer = io.BytesIO()
        Image.new("L", (16, 16)).save(buffer, kind)
        data = buffer.getvalue()
        with pytest.raises(DataError, match="cannot be decoded"):
            decode_images(1, lambda _, data=data: data, lambda _: "x")


def test_a_table_that_unpacks_to_far_more_than_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parquet_source, "MOST_UNPACKED", 10_000)
    bomb = pa.table({"image": [bytes(5_000)] * 2_000, "label": [0] * 2_000})
    pq.write_table(bomb, tmp_path / "train.parquet", compression="zstd")
    assert (tmp_path / "train.parquet").stat().st_size < 10_000
    read = []
    batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda *a, **k: (read.append(b) or b for b in batches(*a, **k)),
    )
    with pytest.raises(DataError, match="is not unpacked"):
        parquet(tmp_path)
    assert len(read) == 1
    rows = pa.table({"image": pa.nulls(10**6, pa.binary()), "label": [0] * 10**6})
    pq.write_table(rows, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="is not unpacked: got 8000000 bytes"):
        parquet(tmp_path)
    assert len(read) == 1


def test_a_partition_that_unpacks_to_far_more_than_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("fedfuse.partition.fixed.MOST_UNPACKED", 1000)
    with pytest.raises(PartitionError, match="is not unpacked"):
        read_partition(archive(tmp_path, "arr_0.npy", announcing((100_000,)) + bytes(100_000)))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"0": ' * 100_000, '{"' + "1" * 5000 + '": [0]}', "1" * 5000, "\ud800", "",
     "3", "null", '"a"', "[1, 2]", '[["a"]]', "[[NaN]]", "[[1e400]]"],
)  # fmt: skip
def test_a_partition_file_of_nonsense_is_one_message(text, tmp_path):
    from fedfuse.partition.fixed import Fixed

    path = tmp_path / "p.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(PartitionError):
        Fixed(str(path))(np.zeros(4, dtype=np.int64), 2, np.random.default_rng(0))


def test_a_partition_that_is_a_pipe_is_not_waited_for(tmp_path):
    import os

    for name in ("p.json", "p.npz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(PartitionError, match="no ordinary file"):
            read_partition(tmp_path / name)
