"""Files that hold a table, CSV or parquet: which belong to which split, and their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedfuse.data.files import place
from fedfuse.data.sources.parquet import find_splits, read_parquet
from fedfuse.errors import DataError

KINDS = (".csv", ".tsv", ".parquet")
WANTED = "a .csv, .tsv or .parquet file, or a folder with train.* and test.*"
_DELIMITERS = (",", ";", "\t")


def find_tables(path: str | Path) -> dict[str, list[Path]]:
    """Return the files of the ``train`` and, if there is one, ``test`` split.

    Args:
        path: A file, which is the training file, or a folder as
            :func:`fedfuse.data.sources.parquet.find_splits` reads one.

    Raises:
        DataError: If there is nothing, or something else.
    """
    root = place(path, WANTED)
    if root.is_dir():
        return find_splits(root, KINDS)
    if not root.is_file() or root.suffix.lower() not in KINDS:
        raise DataError(
            f"{root} is no table" if root.exists() else f"There is no table at {root}",
            allowed=WANTED,
            next_step="Set dataset.path to one.",
        )
    return {"train": [root]}


def read_table(file: Path) -> Any:
    """Return the ``pyarrow.Table`` of a file.

    The delimiter of a CSV file is the one of comma, semicolon and tab that is most frequent in its
    first line, which names the columns. White space around a name is not part of it.

    Raises:
        DataError: If it is damaged or empty.
    """
    import pyarrow as pa

    if file.suffix.lower() in (".parquet", ".arrow"):
        table = read_parquet(file)
    else:
        try:
            table = _read_csv(file)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise DataError(
                f"{file} is not a readable table",
                got=(str(error).splitlines() or [type(error).__name__])[0].rstrip("."),
                allowed="one line of column names, then as many cells in every line, in UTF-8",
            ) from error
        if any(pa.types.is_binary(kind) for kind in table.schema.types):
            raise _encoded(file)
        table = table.rename_columns([name.strip() for name in table.column_names])
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice or not table.num_rows:
        raise DataError(
            f"{file} has two columns of the same name" if twice else f"{file} has no rows",
            got=", ".join(twice[:5]) or None,
            next_step="Give every column a name of its own." if twice else None,
        )
    return table


def _read_csv(file: Path) -> Any:
    from pyarrow import csv

    with file.open("rb") as opened:
        head = opened.readline(2**20)
        size = opened.seek(0, 2)
    try:
        names = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _encoded(file) from error
    delimiter = max(_DELIMITERS, key=names.count)
    return csv.read_csv(
        file,
        # A row must fit into a block.
        csv.ReadOptions(block_size=min(max(size, 2**20), 2**30)),
        csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
    )


def _encoded(file: Path) -> DataError:
    return DataError(
        f"{file} is not in UTF-8",
        next_step="Save it as 'CSV UTF-8', or with pandas: pandas.read_csv(FILE, "
        "encoding='latin-1').to_csv(FILE, index=False).",
    )
