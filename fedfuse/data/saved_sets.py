"""Folders of ``datasets.save_to_disk``, read without a network or the hub's libraries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedfuse.data.roles import train_and_held
from fedfuse.errors import DataError
from fedfuse.files.limits import MOST_RATIO, MOST_UNPACKED, unpacked

WHOLE, SPLITS, STATE = "dataset_info.json", "dataset_dict.json", "state.json"
_LARGEST = 2**20
_AGAIN = "Write it again with datasets.save_to_disk, or copy it again."


def is_saved(root: Path) -> bool:
    """Tell whether a folder is one that ``save_to_disk`` wrote, of a set or of its splits."""
    return (root / SPLITS).is_file() or ((root / STATE).is_file() and (root / WHOLE).is_file())


def saved_splits(root: Path) -> dict[str, list[Path]]:
    """Return the Arrow files of the ``train`` and, if there is one, ``test`` split.

    A set that was saved without splits is all training data; else see
    :func:`fedfuse.data.roles.train_and_held`.

    Args:
        root: A folder of which :func:`is_saved` holds.

    Raises:
        DataError: If a file is damaged or missing, or the splits are not clear.
    """
    if not (root / SPLITS).is_file():
        return {"train": _files(root)}
    train, held = train_and_held(
        _read(root / SPLITS, "splits"),
        f"The data set saved in {root}",
        "Save what you mean as splits train and test, or set dataset.path to the folder of one "
        "split, of which a share is then held back.",
    )
    return {"train": _files(root / train)} | ({"test": _files(root / held)} if held else {})


def arrow_schema(file: Path) -> Any:
    """Return the ``pyarrow.Schema`` of an Arrow file.

    Raises:
        DataError: If it is damaged.
    """
    with _opened(file) as reader:
        return reader.schema


def read_arrow(file: Path, columns: list[str] | None = None) -> Any:
    """Return the ``pyarrow.Table`` of an Arrow file, or of some of its columns.

    Raises:
        DataError: If it is damaged, or unpacks to far more than it is.
    """
    import pyarrow as pa

    limit = max(MOST_UNPACKED, MOST_RATIO * file.stat().st_size)
    batches, size = [], 0
    with _opened(file) as reader:
        wanted = list(reader.schema.names if columns is None else columns)
        for batch in reader:
            batch = batch.select(wanted)
            batch.validate(full=True)  # offsets may lead anywhere
            size += batch.nbytes
            if size > limit:
                raise unpacked(file, size, limit)
            batches.append(batch)
        return pa.Table.from_batches(batches, reader.schema.empty_table().select(wanted).schema)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
            yield reader
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(
            f"{file} is not a readable Arrow file",
            got=(str(error).splitlines() or [type(error).__name__])[0].rstrip("."),
            next_step=_AGAIN,
        ) from error


def _files(folder: Path) -> list[Path]:
    """Return the files of one split, in their order, as its state names them."""
    if _read(folder / STATE, "_indices_data_files", optional=True):
        raise DataError(
            f"{folder} was saved by an old version of datasets, with rows chosen apart from it",
            next_step="Write it again: load_from_disk(FOLDER).flatten_indices().save_to_disk(NEW).",
        )
    files = [folder / name for name in _read(folder / STATE, "_data_files")]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing, which {folder / STATE} names", next_step=_AGAIN)
    return files


def _read(file: Path, key: str, *, optional: bool = False) -> list[str]:
    """Return the names that a JSON file lists; none of them leads out of its folder."""
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"{file.stat().st_size} bytes")
        content = json.loads(file.read_bytes())
        listed = content.get(key) or [] if optional else content[key]
        names = [entry["filename"] if isinstance(entry, dict) else entry for entry in listed]
        if (not names and not optional) or not all(
            isinstance(name, str) and name not in ("", "..") and Path(name).name == name
            for name in names
        ):
            raise ValueError(f"{key}: {str(names)[:100]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file} is not what datasets.save_to_disk writes",
            got=f"{type(error).__name__}: {str(error)[:200]}".rstrip("."),
            next_step=_AGAIN,
        ) from error
    return names
