"""A folder of image files, one folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.images import decode_images
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.errors import DataError
from fedfuse.paths import expand
from fedfuse.types import Samples

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
TEST_FOLDERS = ("test", "validation", "valid", "val")

Listing = list[tuple[Path, str]]
"""Image files, each with the name of its class."""


def image_folder(
    path: str | Path, name: str | None = None, image_size: int | None = None
) -> RawDataset:
    """Return the images of ``path/CLASS/*``, or ``path/train/CLASS/*`` and ``path/test/CLASS/*``.

    Classes are numbered in the order of their names. Without ``test`` a folder ``validation``,
    ``valid`` or ``val`` is the test pool.

    Args:
        path: The folder.
        name: The data set's name; None for the folder's.
        image_size: Stretch all images to this height and width; None to keep their size.

    Raises:
        DataError: If the folder is missing, has no classes, or an image cannot be decoded.
    """
    root = expand(path)
    if not root.is_dir():
        raise DataError(f"No folder {root}", next_step="Set dataset.path to a folder of classes.")
    levels = [root / "train"] if (root / "train").is_dir() else [root]
    if levels[0] != root:
        levels += [root / f for f in TEST_FOLDERS if (root / f).is_dir()][:1]
    listings = [_list(level) for level in levels]
    classes = sorted({label for _, label in listings[0]})
    if unknown := sorted({label for _, label in listings[-1]} - set(classes)):
        raise DataError(
            f"{levels[-1]} has classes that {levels[0]} has not", got=", ".join(unknown[:5])
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


def _list(level: Path) -> Listing:
    """Return the images under a folder of class folders, sorted."""
    folders = sorted(f for f in level.iterdir() if f.is_dir() and not f.name.startswith("."))
    listing: Listing = []
    for folder in folders:
        files = [f for f in sorted(folder.rglob("*")) if f.suffix.lower() in SUFFIXES]
        if not files:
            raise DataError(
                f"The class folder {folder} holds no images",
                allowed=f"files ending in {', '.join(sorted(SUFFIXES))}",
            )
        listing += [(file, folder.name) for file in files]
    if not listing:
        raise DataError(
            f"{level} holds no class folders",
            allowed="one folder of images per class, perhaps under train/ and test/",
            next_step="Set dataset.path to such a folder.",
        )
    return listing


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
