"""Whatever lies at a path: an ``.npz`` file, a folder of parquet files, a folder of classes."""

from __future__ import annotations

from pathlib import Path

from fedfuse.data.files import place, walk
from fedfuse.data.levels import is_image_name
from fedfuse.data.raw import RawDataset
from fedfuse.data.saved_sets import is_saved
from fedfuse.data.sources.idx import has_idx, idx, is_idx
from fedfuse.data.sources.image_folder import image_folder
from fedfuse.data.sources.npz import npz
from fedfuse.data.sources.parquet import first_schema, parquet, parquet_files
from fedfuse.data.sources.text import text
from fedfuse.data.texts import is_of_texts
from fedfuse.errors import DataError


def local(path: str | Path, image_size: int | None = None) -> RawDataset:
    """Return the data set at ``path``; its kind is seen from what is there.

    Args:
        path: An .npz or IDX file, or a folder with parquet or IDX files anywhere in it, one that
            ``datasets.save_to_disk`` wrote, or one of class folders.
        image_size: Stretch encoded images to this height and width; None to keep their size.

    Raises:
        DataError: If there is nothing, or from the reader of its kind.
    """
    kinds = "an .npz file, a folder of parquet or IDX files, or a folder of class folders"
    found = place(path, kinds)
    if found.is_file():
        return idx(found, None, image_size) if is_idx(found) else npz(found)
    if not found.is_dir():
        raise DataError(f"There is no data at {found}", allowed=kinds)
    if has_idx(found):
        return idx(found, None, image_size)
    if is_saved(found) or parquet_files(found):
        if image := next((f for f in walk(found) if is_image_name(f.name)), None):
            raise DataError(
                f"{found} holds parquet files and images, and either could be meant",
                got=image.relative_to(found).as_posix(),
                next_step="Move one kind away.",
            )
        if is_of_texts(first_schema(found), None, None):
            return text(found)
        return parquet(found, image_size=image_size)
    return image_folder(found, image_size=image_size)
