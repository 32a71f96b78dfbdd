"""A local copy of a hub's set, parquet or saved, read without a network or the hub's libraries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.files import entries, other_kind, place, walk
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.data.roles import begins_with_role, only_a_role, role
from fedfuse.data.saved_sets import arrow_schema, is_saved, read_arrow, saved_splits
from fedfuse.data.tables import decode_tables, find_columns
from fedfuse.errors import DataError
from fedfuse.files.limits import MOST_RATIO, MOST_UNPACKED, unpacked

COPY = "a folder with train*.parquet and test*.parquet"
_ROW, _AT_ONCE = 8, 256
"""Bytes that a row comes to at least (its label), and rows unpacked before they are counted."""


def parquet(
    path: str | Path,
    name: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    image_size: int | None = None,
) -> RawDataset:
    """Return the images of a folder of parquet files, or of one that ``save_to_disk`` wrote.

    Files belong to the split that their name or folder names: ``train.parquet``,
    ``data/train-00000-of-00002.parquet``, ``test/0000.parquet``, ``Testing.parquet``. Without a
    test split the validation split is the test pool; beside one it is not used. Files may number
    their classes differently, as long as the hub's metadata in them names the classes.

    Args:
        path: The folder.
        name: The data set's name; None for the folder's.
        image_column: Column of encoded images; None to find it.
        label_column: Column of integer class ids; None to find it.
        image_size: Stretch all images to this height and width; None to keep their size.

    Raises:
        DataError: If the folder, its files or their columns are not as described.
    """
    root = place(path, COPY)
    splits = find_splits(root)
    where = str(root)
    columns = find_columns(_schema(splits["train"][0]), where, image_column, label_column)
    files = {file.relative_to(root).as_posix(): file for part in splits.values() for file in part}
    parameters = {"columns": columns, "image_size": image_size}

    def decode() -> Decoded:
        tables = {
            split: {str(file): _read(file, columns) for file in part}
            for split, part in splits.items()
        }
        return decode_tables(tables, columns, where, image_size)

    key = cache_key("parquet", parameters, files)
    return cached(name or root.resolve().name, key, decode)


def find_splits(root: Path, kinds: tuple[str, ...] = (".parquet",)) -> dict[str, list[Path]]:
    """Return the sorted files of the ``train`` and, if there is one, ``test`` split.

    Of a folder that ``datasets.save_to_disk`` wrote they are Arrow files, whatever is asked for.

    Args:
        root: The folder to search.
        kinds: How the files' names end, in lower case.

    Raises:
        DataError: If there is no such folder, no training file, more than one data set, or a file
            whose split is not clear.
    """
    wanted = " and ".join(f"{split}*{kinds[0]}" for split in ("train", "test"))
    if not root.is_dir():
        raise DataError(
            f"The data path {root} is not a folder" if root.exists() else f"No folder {root}",
            allowed=f"a folder with {wanted}",
            next_step="Set dataset.path to one.",
        )
    if is_saved(root):
        return saved_splits(root)
    files = parquet_files(root, kinds)
    found: dict[str, dict[str, list[Path]]] = {}
    unknown = []
    for file in files:
        parts = (*file.relative_to(root).parts[:-1], file.stem)
        depth = _where_split(parts)
        if depth is None:
            unknown.append(file.relative_to(root).as_posix())
        else:
            splits = found.setdefault("/".join(parts[:depth]), {})
            splits.setdefault(str(role(parts[depth])), []).append(file)
    if len(found) > 1:
        raise DataError(
            f"{root} holds more than one data set",
            got=f"split files in {', '.join(f or '.' for f in sorted(found))}",
            next_step="Set dataset.path to the folder of one of them.",
        )
    splits = next(iter(found.values()), {})
    test = splits.get("test") or splits.get("val")
    if "train" not in splits or (unknown and not test):
        names = [file.relative_to(root).as_posix() for file in files]
        raise DataError(
            f"The split of {unknown[0]} in {root} is not clear"
            if "train" in splits
            else f"No train*{kinds[0]} in {root}",
            got=", ".join(names[:5]) or _instead(root, kinds[0]),
            allowed=f"{wanted}, or folders train/ and test/",
            next_step="Rename it or move it away."
            if "train" in splits
            else (None if files else other_kind(root))
            or "Set dataset.path to a folder that has them.",
        )
    return {"train": splits["train"]} | ({"test": test} if test else {})


def parquet_files(root: Path, kinds: tuple[str, ...] = (".parquet",)) -> list[Path]:
    """Return all files of some kinds under a folder, sorted; no ordinary files are refused."""
    files = [file for file in walk(root) if file.suffix.lower() in kinds]
    for file in files:
        if not file.is_file():
            kind = file.suffix.lower()[1:]
            raise DataError(f"{file} is not a readable {kind} file", got="no ordinary file")
    return files


def _where_split(parts: tuple[str, ...]) -> int | None:
    """Return which part of a path says the split: one that says nothing else comes first."""
    known = [depth for depth, part in enumerate(parts) if role(part) is not None]
    exact = [depth for depth in known if only_a_role(parts[depth])]
    first = [depth for depth in reversed(known) if begins_with_role(parts[depth])]
    return next(iter([*exact, *first, *reversed(known)]), None)


def _instead(root: Path, kind: str) -> str:
    """Say what a folder without such files holds."""
    names = [entry.name for entry in entries(root)]
    return f"no {kind[1:]} file" + (f", but {', '.join(names[:5])}" if names else "")


def first_schema(path: str | Path) -> Any:
    """Return the ``pyarrow.Schema`` of the first training file of a folder.

    Raises:
        DataError: If the folder or the file is not as described.
    """
    return _schema(find_splits(place(path, COPY))["train"][0])


def _schema(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".arrow":
        return arrow_schema(file)
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _read(file: Path, columns: tuple[str, str]) -> Any:
    find_columns(_schema(file), str(file), *columns)
    return read_parquet(file, columns)


def read_parquet(file: Path, columns: Sequence[str] | None = None) -> Any:
    """Return the ``pyarrow.Table`` of a file, also an Arrow file, or of some of its columns.

    Raises:
        DataError: If it is damaged, or unpacks to far more than it is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".arrow":
        return read_arrow(file, None if columns is None else list(columns))
    try:
        # Not pq.read_table, which takes folder names like "a=b" for columns.
        with pq.ParquetFile(file) as opened:
            wanted = list(opened.schema_arrow.names if columns is None else columns)
            limit = max(MOST_UNPACKED, MOST_RATIO * file.stat().st_size)
            batches, size = [], 0
            if opened.metadata.num_rows * _ROW > limit:
                raise unpacked(file, opened.metadata.num_rows * _ROW, limit)
            for batch in opened.iter_batches(_AT_ONCE, columns=wanted):
                size += batch.nbytes
                if size > limit:
                    raise unpacked(file, size, limit)
                batches.append(batch)
            return pa.Table.from_batches(
                batches, opened.schema_arrow.empty_table().select(wanted).schema
            )
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} is not a readable parquet file",
        got=_first_line(error),
        next_step="Copy or download it again.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
