"""A local folder in the hub's parquet layout, read without a network or the hub's libraries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.data.tables import decode_tables, find_columns
from fedfuse.errors import DataError
from fedfuse.paths import expand

SPLITS = {"train": "train", "test": "test", "validation": "val", "valid": "val", "val": "val"}
_SPLIT = re.compile(rf"({'|'.join(SPLITS)})(?:[-_.].*)?", re.IGNORECASE)


def parquet(
    path: str | Path,
    name: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    image_size: int | None = None,
) -> RawDataset:
    """Return the images of a folder of parquet files.

    Files belong to the split that their name or folder begins with: ``train.parquet``,
    ``data/train-00000-of-00002.parquet``, ``test/0000.parquet``. Without a test split the
    validation split is the test pool; beside one it is not used.

    Args:
        path: The folder.
        name: The data set's name; None for the folder's.
        image_column: Column of encoded images; None to find it.
        label_column: Column of integer class ids; None to find it.
        image_size: Stretch all images to this height and width; None to keep their size.

    Raises:
        DataError: If the folder, its files or their columns are not as described.
    """
    root = expand(path)
    splits = find_splits(root)
    where = str(root)
    columns = find_columns(_schema(splits["train"][0]), where, image_column, label_column)
    files = {file.relative_to(root).as_posix(): file for part in splits.values() for file in part}
    parameters = {"columns": columns, "image_size": image_size}

    def decode() -> Decoded:
        tables = {split: _read(files, columns, where) for split, files in splits.items()}
        return decode_tables(tables, columns, where, image_size)

    key = cache_key("parquet", parameters, files)
    return cached(name or root.resolve().name, key, decode)


def find_splits(root: Path) -> dict[str, list[Path]]:
    """Return the sorted parquet files of the ``train`` and, if there is one, ``test`` split.

    Args:
        root: The folder to search.

    Raises:
        DataError: If there is no such folder, no training file, or more than one data set.
    """
    if not root.is_dir():
        raise DataError(
            f"The data path {root} is not a folder" if root.exists() else f"No folder {root}",
            allowed="a folder with train*.parquet and test*.parquet",
            next_step="Set dataset.path to one.",
        )
    found: dict[str, dict[str, list[Path]]] = {}
    names = []
    for file in sorted(root.rglob("*.parquet")):
        parts = file.relative_to(root).parts
        if any(part.startswith(".") for part in parts):
            continue
        names.append("/".join(parts))
        for depth, part in enumerate((*parts[:-1], file.stem)):
            if match := _SPLIT.fullmatch(part):
                split = SPLITS[match[1].lower()]
                found.setdefault("/".join(parts[:depth]), {}).setdefault(split, []).append(file)
                break
    if len(found) > 1:
        raise DataError(
            f"{root} holds more than one data set",
            got=f"split files in {', '.join(f or '.' for f in sorted(found))}",
            next_step="Set dataset.path to the folder of one of them.",
        )
    splits = next(iter(found.values()), {})
    if "train" not in splits:
        raise DataError(
            f"No train*.parquet in {root}",
            got=", ".join(names[:5]) or "no parquet file",
            allowed="train*.parquet and test*.parquet, or folders train/ and test/",
            next_step="Set dataset.path to a folder that has them.",
        )
    test = splits.get("test") or splits.get("val")
    return {"train": splits["train"]} | ({"test": test} if test else {})


def _schema(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _read(files: list[Path], columns: tuple[str, str], where: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for file in files:
        try:
            # Not pq.read_table, which takes folder names like "a=b" for columns.
            with pq.ParquetFile(file) as opened:
                find_columns(opened.schema_arrow, f"{where}/{file.name}", *columns)
                tables.append(opened.read(columns=list(columns)))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(file, error) from error
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise DataError(
            f"The parquet files of {where} have different columns", got=_first_line(error)
        ) from error


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} is not a readable parquet file",
        got=_first_line(error),
        next_step="Copy or download it again.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
