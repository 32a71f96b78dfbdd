"""Whatever lies at a path: an ``.npz`` file, a folder of parquet files, a folder of classes."""

from __future__ import annotations

from pathlib import Path

from fedfuse.data.raw import RawDataset
from fedfuse.data.sources.image_folder import image_folder
from fedfuse.data.sources.npz import npz
from fedfuse.data.sources.parquet import parquet
from fedfuse.errors import DataError
from fedfuse.paths import expand


def local(path: str | Path, image_size: int | None = None) -> RawDataset:
    """Return the data set at ``path``; its kind is seen from what is there.

    Args:
        path: A file, or a folder with parquet files anywhere in it, or one of class folders.
        image_size: Stretch encoded images to this height and width; None to keep their size.

    Raises:
        DataError: If there is nothing, or from the reader of its kind.
    """
    place = expand(path)
    if place.is_file():
        return npz(place)
    if not place.is_dir():
        raise DataError(
            f"There is no data at {place}",
            allowed="an .npz file, a folder of parquet files, or a folder of class folders",
        )
    if next(place.rglob("*.parquet"), None) is not None:
        return parquet(place, image_size=image_size)
    return image_folder(place, image_size=image_size)
