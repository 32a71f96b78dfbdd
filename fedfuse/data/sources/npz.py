"""Arrays in one ``.npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.errors import DataError
from fedfuse.paths import expand
from fedfuse.types import IntArray, Samples

TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y"))
TEST = (("x_test", "y_test"), ("test_images", "test_labels"))
MOST_UNPACKED, MOST_RATIO = 4 * 2**30, 100
"""An archive may unpack to so many bytes, or to so many times what it stores."""


def npz(path: str | Path, name: str | None = None) -> RawDataset:
    """Return the samples of an ``.npz`` file.

    The arrays are called ``x_train``, ``y_train`` and perhaps ``x_test``, ``y_test``;
    ``train_images``, ``train_labels``, ``test_images``, ``test_labels``; or ``x``, ``y``. Inputs
    are uint8 images [N, height, width], [N, height, width, channels] or [N, channels, height,
    width] with 1 or 3 channels (channels last if both could be meant), or features of any float
    type [N, ...], used as they are. Labels are integers [N] or [N, 1]. An array ``class_names``
    of strings may come with them. Pickled objects are refused, never loaded.

    Args:
        path: The file.
        name: The data set's name; None for the file's.

    Raises:
        DataError: If the file is missing, damaged or holds something else.
    """
    file = expand(path)
    if not file.is_file():
        raise DataError(f"No file {file}", next_step="Set dataset.path to an .npz file.")
    key = cache_key("npz", {}, {file.name: file})
    return cached(name or file.stem, key, lambda: _decode(file))


def _decode(file: Path) -> Decoded:
    try:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{file} is not an .npz file", got="a single array")
        with loaded:
            _check_size(loaded.zip, file)
            arrays = {key: loaded[key] for key in loaded.files}
    except _DAMAGE as error:
        raise DataError(
            f"{file} cannot be read",
            got=str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__,
            allowed="an .npz file of plain arrays; pickled objects are refused",
        ) from error
    train = _find(arrays, TRAIN)
    if train is None:
        raise DataError(
            f"{file} holds no training arrays",
            got=f"arrays {', '.join(arrays)}",
            allowed=" or ".join(" and ".join(pair) for pair in TRAIN),
        )
    samples = _samples(arrays, train, file)
    test = _find(arrays, TEST)
    held = None if test is None else _samples(arrays, test, file)
    largest = max(int(part.labels.max(initial=0)) for part in (samples, held) if part is not None)
    names = [str(entry) for entry in arrays.get("class_names", np.arange(largest + 1)).ravel()]
    return Decoded(samples, held, tuple(names))


# MemoryError: a header may announce an array of any size.
_DAMAGE = (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error)


def _check_size(archive: zipfile.ZipFile | None, file: Path) -> None:
    """Refuse an archive that would unpack to far more than it is (a zip bomb)."""
    members = [] if archive is None else archive.infolist()
    unpacked, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if unpacked > max(MOST_UNPACKED, MOST_RATIO * packed):
        raise DataError(
            f"{file} is not unpacked",
            got=f"{unpacked} bytes out of {packed}",
            allowed=f"{MOST_UNPACKED} bytes, or {MOST_RATIO} times as many as are stored",
        )


def _find(
    arrays: dict[str, npt.NDArray[Any]], pairs: tuple[tuple[str, str], ...]
) -> tuple[str, str] | None:
    return next((pair for pair in pairs if pair[0] in arrays and pair[1] in arrays), None)


def _samples(arrays: dict[str, npt.NDArray[Any]], pair: tuple[str, str], file: Path) -> Samples:
    inputs, labels = arrays[pair[0]], arrays[pair[1]]
    return Samples(_inputs(inputs, pair[0], file), _labels(labels, pair[1], file))


def _inputs(array: npt.NDArray[Any], name: str, file: Path) -> npt.NDArray[Any]:
    if np.issubdtype(array.dtype, np.floating) and array.ndim >= 2:
        if not np.isfinite(array).all():
            raise DataError(f"Array '{name}' of {file} holds values that are not finite")
        return np.asarray(array, dtype=np.float32)
    if array.dtype == np.uint8 and array.ndim == 3:
        return array[:, None]
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[1] in (1, 3):
        return array
    raise DataError(
        f"Array '{name}' of {file} is neither images nor features",
        got=f"{array.dtype.name} {list(array.shape)}",
        allowed="uint8 images with 1 or 3 channels, or floats [N, ...]",
    )


def _labels(array: npt.NDArray[Any], name: str, file: Path) -> IntArray:
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if not np.issubdtype(flat.dtype, np.integer) or flat.ndim != 1:
        raise DataError(
            f"Array '{name}' of {file} does not hold integer class ids",
            got=f"{array.dtype.name} {list(array.shape)}",
            allowed="integers [N] or [N, 1]",
        )
    return np.asarray(flat, dtype=np.int64)
