"""IDX files, the format of the MNIST originals and their kin (EMNIST, KMNIST, Fashion-MNIST)."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedfuse.data.arrays import as_inputs
from fedfuse.data.cache import cache_key, cached
from fedfuse.data.files import is_left_behind, place, walk
from fedfuse.data.images import machine_memory, match_images
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.errors import DataError
from fedfuse.types import IntArray, Samples
from fedfuse.validation import require_count

WANTED = "a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and perhaps t10k-*"
_NAME = re.compile(r"(.*?)(train|t10k|test)[-_.](images|labels)[-_.]idx\d-ubyte(\.gz)?")
_UNSIGNED = 0x08


class _Part(NamedTuple):
    """Where the two files of a pool lie."""

    images: Path
    labels: Path


def idx(path: str | Path, name: str | None = None, image_size: int | None = None) -> RawDataset:
    """Return the images of a folder of IDX files, packed by gzip or not.

    Their classes are the labels that training samples have, in order: EMNIST's letters, 1 to 26,
    are 26 classes. Without test files the run holds samples back.

    Args:
        path: A folder with the files anywhere in it (of a file that lies there packed and unpacked,
            the latter is read), or one of them where a folder holds several sets.
        name: The data set's name; None for the folder's.
        image_size: Stretch all images to this height and width; None to keep their size.

    Raises:
        DataError: If a file is missing or damaged, or holds something else.
    """
    if image_size is not None:
        require_count("dataset", "image_size", image_size)
    found = place(path, WANTED)
    train, test = _parts(found)
    files = {f"{i}": file for i, file in enumerate((*train, *(test or ())))}
    key = cache_key("idx", {"image_size": image_size}, files)
    folder = found.resolve() if found.is_dir() else found.resolve().parent
    return cached(name or folder.name, key, lambda: _decode(train, test, image_size))


def has_idx(folder: Path) -> bool:
    """Tell whether IDX files lie anywhere in a folder."""
    return any(_NAME.fullmatch(file.name) for file in walk(folder))


def is_idx(file: Path) -> bool:
    """Tell whether a file is called like an IDX file."""
    return _NAME.fullmatch(file.name) is not None


def _parts(found: Path) -> tuple[_Part, _Part | None]:
    """Return the files of the training and the test pool."""
    root, wanted = (found.parent, _NAME.fullmatch(found.name)) if found.is_file() else (found, None)
    if not root.is_dir() or (found.is_file() and wanted is None):
        what = f"{found} is no IDX file" if found.exists() else f"There is no data at {found}"
        raise DataError(what, allowed=WANTED, next_step="Set dataset.path to one.")
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for file in walk(root):
        match = _NAME.fullmatch(file.name)
        if match is None or is_left_behind(file.name):
            continue
        pool, kind = "train" if match[2] == "train" else "test", match[3]
        here = sets.setdefault(match[1], {})
        other = here.get((pool, kind))
        if other is not None and other.with_suffix("") != file and file.with_suffix("") != other:
            raise DataError(
                f"{root} holds the {pool} {kind} of more than one data set",
                got=f"{other.relative_to(root)} and {file.relative_to(root)}",
                next_step="Set dataset.path to the folder of one of them.",
            )
        if other is None or not file.name.endswith(".gz"):
            here[pool, kind] = file
    if wanted is not None:
        sets = {wanted[1]: sets[wanted[1]]}
    if len(sets) != 1:
        raise DataError(
            f"{root} holds more than one data set" if sets else f"No IDX files in {root}",
            got=", ".join(f"{prefix}*" for prefix in sorted(sets)) or None,
            allowed=WANTED,
            next_step="Set dataset.path to the training images of the one you mean."
            if sets
            else "Set dataset.path to such a folder.",
        )
    (files,) = sets.values()
    pools = []
    for pool in ("train", "test"):
        there = {kind: files.get((pool, kind)) for kind in ("images", "labels")}
        if lacking := [kind for kind, file in there.items() if file is None]:
            if pool == "test" and len(lacking) == 2:
                continue
            raise DataError(
                f"{root} has no {lacking[0]} for {'training' if pool == 'train' else 'the test'}",
                got=", ".join(sorted(file.name for file in files.values())),
                allowed=WANTED,
                next_step="Add the file.",
            )
        pools.append(_Part(there["images"], there["labels"]))  # type: ignore[arg-type]
    return pools[0], pools[1] if len(pools) > 1 else None


def _decode(train: _Part, test: _Part | None, image_size: int | None) -> Decoded:
    read = [_read_pool(part, image_size) for part in (train, test) if part is not None]
    known = np.unique(read[0][1])
    pools = []
    for part, (images, labels) in zip((train, test), read, strict=False):
        ids = np.minimum(np.searchsorted(known, labels), len(known) - 1)
        if part is not None and (unknown := np.flatnonzero(known[ids] != labels)).size:
            raise DataError(
                f"{part.labels} has classes of which no sample is for training",
                got=f"label {labels[unknown[0]]}",
                allowed=", ".join(map(str, known[:20])),
            )
        pools.append(Samples(images, ids.astype(np.int64)))
    return Decoded(pools[0], pools[1] if test is not None else None, tuple(map(str, known)))


def _read_pool(part: _Part, image_size: int | None) -> tuple[npt.NDArray[np.uint8], IntArray]:
    images, labels = read_idx(part.images), read_idx(part.labels)
    for file, array, ndims in ((part.images, images, (3, 4)), (part.labels, labels, (1,))):
        if array.ndim not in ndims:
            raise DataError(
                f"{file} does not hold {'labels' if ndims == (1,) else 'images'}",
                got=f"an array {list(array.shape)}",
                allowed="labels [N]" if ndims == (1,) else "images [N, height, width]",
                next_step="Check that the files were not mixed up.",
            )
    if len(images) != len(labels) or not len(images):
        raise DataError(
            f"{part.images} and {part.labels} do not belong together",
            got=f"{len(images)} images and {len(labels)} labels",
            allowed="one label per image, at least one",
            next_step="Download both again.",
        )
    pixels = np.ascontiguousarray(as_inputs(images, str(part.images)))
    if image_size is not None:
        pixels = match_images(pixels, pixels.shape[1], image_size, image_size)
    return pixels, labels.astype(np.int64)


def read_idx(file: Path) -> npt.NDArray[np.uint8]:
    """Return the array of an IDX file, packed by gzip or not.

    Raises:
        DataError: If it is damaged, holds other values than whole numbers from 0 to 255, or more
            than this machine's memory.
    """
    opened: Any
    try:
        with file.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(file) if packed else file.open("rb") as opened:
            head = opened.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or not head[3]:
                raise ValueError(f"a file that begins with {head!r}")
            if head[2] != _UNSIGNED:
                raise ValueError(f"values of type 0x{head[2]:02x}, where 0x08 (0 to 255) is read")
            sizes = opened.read(4 * head[3])
            shape = tuple(int(n) for n in np.frombuffer(sizes, dtype=">u4"))
            size = math.prod(shape)
            if len(shape) != head[3] or size > machine_memory():
                raise ValueError(f"an array {list(shape)}")
            data = opened.read(size + 1)
            if len(data) != size:
                more = "more than " if len(data) > size else ""
                raise ValueError(f"{more}{min(len(data), size)} values for an array {list(shape)}")
    except (OSError, EOFError, ValueError, zlib.error, MemoryError) as error:
        raise DataError(
            f"{file} is not a whole IDX file",
            got=(str(error).splitlines() or [type(error).__name__])[0].rstrip("."),
            next_step="Download it again.",
        ) from error
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
