"""Arrays in one ``.npz`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from fedfuse.data.arrays import as_inputs, as_labels
from fedfuse.data.cache import cache_key, cached
from fedfuse.data.classes import numbered, tidy
from fedfuse.data.files import place
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.errors import DataError
from fedfuse.files.archive import names_in, read_npz
from fedfuse.files.limits import MOST_UNPACKED
from fedfuse.types import Samples

TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y"))
TEST = (("x_test", "y_test"), ("test_images", "test_labels"))
VAL = (("x_val", "y_val"), ("val_images", "val_labels"))
NAMES = "class_names"


def npz(path: str | Path, name: str | None = None) -> RawDataset:
    """Return the samples of an ``.npz`` file.

    The arrays are called ``x_train``, ``y_train`` and perhaps ``x_test``, ``y_test``;
    ``train_images``, ``train_labels``, ``test_images``, ``test_labels``; or ``x``, ``y``. Without a
    test split the validation split (``x_val``, ``y_val``; ``val_images``, ``val_labels``) is the
    test pool; beside one it is not used. Inputs
    are uint8 images [N, height, width], [N, height, width, channels] or [N, channels, height,
    width] with 1 or 3 channels (channels last if both could be meant), or features of any float
    type [N, ...], used as they are; four-dimensional ones with 1 or 3 channels last become
    channels first. Labels are integers [N] or [N, 1]. An array ``class_names`` of strings may come
    with them. Pickled objects are refused, never loaded.

    Args:
        path: The file.
        name: The data set's name; None for the file's.

    Raises:
        DataError: If the file is missing, damaged or holds something else.
    """
    file = place(path, "an .npz file")
    if not file.is_file():
        what = f"{file} is a folder, and no .npz file" if file.is_dir() else f"No file {file}"
        raise DataError(what, next_step="Set dataset.path to an .npz file.")
    key = cache_key("npz", {}, {file.name: file})
    return cached(name or file.stem, key, lambda: _decode(file))


def _decode(file: Path) -> Decoded:
    pairs = (*TRAIN, *TEST, *VAL)
    arrays = read_npz(file, (*(n for pair in pairs for n in pair), NAMES), MOST_UNPACKED)
    train, test = _find(arrays, TRAIN), _find(arrays, TEST) or _find(arrays, VAL)
    for pair in (*TEST, *VAL):
        there = [name for name in pair if name in arrays]
        if train and len(there) == 1:
            lacking = next(name for name in pair if name not in arrays)
            raise DataError(
                f"{file} holds '{there[0]}' without '{lacking}'",
                next_step=f"Add {lacking}, or leave {there[0]} out.",
            )
    if train is None:
        raise DataError(
            f"{file} holds no training arrays",
            got=f"arrays {', '.join(names_in(file))}",
            allowed=" or ".join(" and ".join(pair) for pair in TRAIN),
            next_step="Write it with numpy.savez(path, x_train=x, y_train=y).",
        )
    samples = _samples(arrays, train, file)
    held = None if test is None else _samples(arrays, test, file)
    labels = [part.labels for part in (samples, held) if part is not None]
    if NAMES in arrays:
        names = tidy(arrays[NAMES].ravel().tolist(), str(file))
    else:
        names = numbered(labels, str(file))
    return Decoded(samples, held, names)


def _find(
    arrays: dict[str, npt.NDArray[Any]], pairs: tuple[tuple[str, str], ...]
) -> tuple[str, str] | None:
    return next((pair for pair in pairs if pair[0] in arrays and pair[1] in arrays), None)


def _samples(arrays: dict[str, npt.NDArray[Any]], pair: tuple[str, str], file: Path) -> Samples:
    inputs, labels = (f"Array '{name}' of {file}" for name in pair)
    return Samples(as_inputs(arrays[pair[0]], inputs), as_labels(arrays[pair[1]], labels))
