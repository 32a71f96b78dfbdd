"""Arrays out of an ``.npz`` archive of a stranger: no pickles, and no more than was announced."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.errors import DataError
from fedfuse.files.conversions import SAVE, conversion
from fedfuse.files.limits import MOST_RATIO, MOST_UNPACKED, unpacked

# MemoryError: a header may announce an array of any size.
DAMAGE = (
    OSError, ValueError, EOFError, KeyError, MemoryError, OverflowError, RecursionError,
    SyntaxError, TypeError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise on a damaged or encrypted archive."""

_GOT = {".npy": "a single array"}


def names_in(file: Path) -> list[str]:
    """Return the names of the arrays in an archive."""
    with zipfile.ZipFile(file) as opened:
        return [name.removesuffix(".npy") for name in opened.namelist()]


def read_npz(
    file: Path, wanted: Collection[str] | None = None, most: int = MOST_UNPACKED
) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of an ``.npz`` file.

    Args:
        file: The archive.
        wanted: Names of those to read, as far as it has them; all if None.
        most: Bytes that it may unpack to, whatever its own size.

    Raises:
        DataError: If it is none, is damaged, or holds objects instead of numbers or text.
    """
    with file.open("rb") as opened:
        head = opened.read(4)
    if head != b"PK\x03\x04":
        raise _other_kind(file, head)
    arrays: dict[str, npt.NDArray[Any]] = {}
    name = ""
    try:
        with np.load(file, allow_pickle=False) as loaded:
            chosen = [n for n in loaded.files if wanted is None or n in wanted]
            _check_size(loaded.zip, chosen, file, most)
            for name in chosen:
                arrays[name] = loaded[name]
    except DAMAGE as error:
        text = (str(error).splitlines() or [""])[0].rstrip(".")
        if "pickle" in text:
            raise DataError(
                f"Array '{name}' of {file} holds Python objects, which are never loaded",
                allowed="numbers, or text of a fixed width; pickled objects are refused",
                next_step=f"Write it again as {name}=numpy.array(list({name})), all its rows of "
                "one shape and kind.",
            ) from error
        raise DataError(
            f"{file} cannot be read",
            got=text or type(error).__name__,
            allowed="an .npz file of plain arrays",
            next_step=f"Copy it or write it again: {SAVE}.",
        ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"'{name}' of {file} is no array")
    return arrays


def _other_kind(file: Path, head: bytes) -> DataError:
    kind = ".npy" if head == b"\x93NUM" else file.suffix.lower()
    return DataError(
        f"{file} cannot be read, for it is not an .npz file",
        got=_GOT.get(kind) or (f"a file that begins with {head!r}" if head else "an empty file"),
        allowed="an .npz file of plain arrays; pickled objects are refused",
        next_step=(None if kind == ".npz" else conversion(kind if kind == ".npy" else file.name))
        or f"Write its inputs and labels with {SAVE}.",
    )


def _check_size(archive: zipfile.ZipFile, chosen: Collection[str], file: Path, most: int) -> None:
    """Refuse an archive that would unpack to far more than it is (a zip bomb)."""
    members = [m for m in archive.infolist() if m.filename.removesuffix(".npy") in chosen]
    size, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if size > (limit := max(most, MOST_RATIO * packed)):
        raise unpacked(file, size, limit)
