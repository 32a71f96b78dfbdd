"""Files that hold a table, CSV or parquet: which belong to which split, and their rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


def read_tables(files: Sequence[Path], num_train: int) -> dict[str, Any]:
    """Return the ``pyarrow.Table`` of each file of a data set, by the file in words.

    A CSV file does not say what its columns hold: where ``01`` or ``True`` stands in all cells, it
    is read as numbers. What is text in one of the training files is read as text in all files.

    Args:
        files: The files, the training files first.
        num_train: How many of them are training files.

    Raises:
        DataError: As :func:`read_table`.
    """
    tables = {str(file): read_table(file) for file in files}
    texts = {f.name for t in list(tables.values())[:num_train] for f in t.schema if _is_text(f)}
    for file in files:
        schema = tables[str(file)].schema
        if _is_csv(file) and any(f.name in texts and not _is_text(f) for f in schema):
            tables[str(file)] = read_table(file, texts)
    return tables


def read_table(file: Path, texts: Collection[str] = ()) -> Any:
    """Return the ``pyarrow.Table`` of a file, of CSV with some columns as texts whatever they hold.

    The delimiter of a CSV file is the one of comma, semicolon and tab that is most frequent in its
    first line, which names the columns. White space around a name is not part of it.

    Raises:
        DataError: If it is damaged or empty.
    """
    import pyarrow as pa

    if not _is_csv(file):
        table = read_parquet(file)
    else:
        try:
            table = _read_csv(file, texts)
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


def _is_csv(file: Path) -> bool:
    return file.suffix.lower() not in (".parquet", ".arrow")


def _is_text(field: Any) -> bool:
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read_csv(file: Path, texts: Collection[str]) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    with file.open("rb") as opened:
        head = opened.readline(2**20)
        size = opened.seek(0, 2)
    try:
        names = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _encoded(file) from error
    delimiter = max(_DELIMITERS, key=names.count)
    # A row must fit into a block.
    reading = csv.ReadOptions(block_size=min(max(size, 2**20), 2**30))
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    table = csv.read_csv(file, reading, parsing)
    if kinds := {name: pa.string() for name in table.column_names if name.strip() in texts}:
        table = csv.read_csv(file, reading, parsing, csv.ConvertOptions(column_types=kinds))
    return table


def _encoded(file: Path) -> DataError:
    return DataError(
        f"{file} is not in UTF-8",
        next_step="Save it as 'CSV UTF-8', or with pandas: pandas.read_csv(FILE, "
        "encoding='latin-1').to_csv(FILE, index=False).",
    )
