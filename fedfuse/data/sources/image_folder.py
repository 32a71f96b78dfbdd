"""A folder of image files, one folder per class."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.files import other_kind, place, walk
from fedfuse.data.images import decode_images
from fedfuse.data.levels import (
    LAYOUT,
    SUFFIXES,
    holds_images,
    is_image_name,
    split_levels,
    subfolders,
)
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.errors import DataError
from fedfuse.types import Samples

UNREAD = frozenset(
    (
        ".avif", ".cr2", ".dcm", ".dds", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".ico",
        ".j2k", ".jp2", ".jxl", ".nef", ".npy", ".pcx", ".psd", ".sgi", ".svg", ".tga", ".xbm",
    )
)  # fmt: skip
"""Pictures too, but not to be decoded here; a class is not quietly made smaller by them."""

Listing = list[tuple[Path, str]]
"""Image files, each with the name of its class."""


def image_folder(
    path: str | Path, name: str | None = None, image_size: int | None = None
) -> RawDataset:
    """Return the images of ``path/CLASS/*``, or ``path/train/CLASS/*`` and ``path/test/CLASS/*``.

    Classes are numbered in the order of their names; names that are all whole numbers by their
    value. Splits may be called ``training``, ``TEST``, ``validation``, ``dev`` and the like;
    without a test split the validation split is the test pool, beside one it is not used. All of
    it may lie in a folder within the folder. Hidden files are passed over, links are followed.

    Args:
        path: The folder.
        name: The data set's name; None for the folder's.
        image_size: Stretch all images to this height and width; None to keep their size.

    Raises:
        DataError: If the folder is missing, has no classes, can be understood in two ways, or an
            image cannot be decoded.
    """
    root = place(path, "a folder of class folders")
    if not root.is_dir():
        what = f"{root} is a file, and no folder" if root.exists() else f"No folder {root}"
        raise DataError(what, allowed=LAYOUT, next_step="Set dataset.path to a folder of classes.")
    levels = split_levels(root)
    listings = [_list(level, root) for level in levels]
    classes = sorted({label for _, label in listings[0]})
    if all(re.fullmatch(r"-?[0-9]+", label) for label in classes):
        classes.sort(key=int)
    if unknown := sorted({label for _, label in listings[-1]} - set(classes)):
        raise DataError(
            f"{levels[-1]} has classes that {levels[0]} has not",
            got=", ".join(unknown[:5]),
            allowed=", ".join(classes[:20]),
            next_step="Give the folders of a class the same name in both.",
        )
    every = [entry for listing in listings for entry in listing]
    files = {file.relative_to(root).as_posix(): file for file, _ in every}
    # Which file is in which pool and class follows from the names, which the key holds.
    key = cache_key("image_folder", {"image_size": image_size}, files)
    return cached(
        name or root.resolve().name,
        key,
        lambda: _decode(every, len(listings[0]), classes, image_size),
    )


def _list(level: Path, root: Path) -> Listing:
    """Return the images under a folder of class folders, sorted."""
    listing: Listing = []
    names: dict[str, Path] = {}
    for folder in subfolders(level):
        # One name may be written in two ways of Unicode: by macOS in one, elsewhere in another.
        name = unicodedata.normalize("NFC", folder.name)
        if name in names or not name.isprintable():
            raise DataError(
                f"The class folder {str(folder)!r} has a name that cannot be used",
                got="another folder's, written in another way" if name in names else repr(name),
                next_step="Rename it.",
            )
        names[name] = folder
        files = [file for file in walk(folder, root) if _is_image(file)]
        if not files:
            raise DataError(
                f"The class folder {folder} holds no images",
                allowed=f"files ending in {', '.join(sorted(SUFFIXES))}",
                next_step=other_kind(folder)
                or "Remove it, or set dataset.path to a folder of class folders only.",
            )
        listing += [(file, name) for file in files]
    if not listing:
        raise DataError(
            f"{level} holds no class folders",
            got="images, without a class" if holds_images(level) else None,
            allowed=LAYOUT,
            next_step=(None if holds_images(level) else other_kind(level))
            or "Set dataset.path to such a folder.",
        )
    return listing


def _is_image(file: Path) -> bool:
    """Tell whether a file is an image to be read; refuse one that cannot be."""
    if is_image_name(file.name):
        if file.is_file():
            return True
        got = "a link that leads nowhere" if file.is_symlink() else "no ordinary file"
        raise DataError(f"The image {file} cannot be read", got=got)
    if file.suffix.lower() in UNREAD:
        raise DataError(
            f"{file} is a picture of a kind that is not read",
            allowed=f"files ending in {', '.join(sorted(SUFFIXES))}",
            next_step="Convert it to PNG, or move it away.",
        )
    return False


def _decode(
    entries: Listing, num_train: int, classes: Sequence[str], image_size: int | None
) -> Decoded:
    pixels = decode_images(
        len(entries),
        lambda i: entries[i][0].read_bytes(),
        lambda i: str(entries[i][0]),
        image_size,
    )
    number = {label: i for i, label in enumerate(classes)}
    labels = np.array([number[label] for _, label in entries], dtype=np.int64)
    held = Samples(pixels[num_train:], labels[num_train:])
    return Decoded(
        Samples(pixels[:num_train], labels[:num_train]),
        held if len(held) else None,
        tuple(classes),
    )
