"""Texts with labels, from CSV or parquet files."""

from __future__ import annotations

from pathlib import Path

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.files import place
from fedfuse.data.raw import RawDataset
from fedfuse.data.table_files import WANTED, find_tables, read_tables
from fedfuse.data.texts import decode_texts
from fedfuse.data.words import WORDS, check_words


def text(
    path: str | Path,
    name: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    words: int = WORDS,
) -> RawDataset:
    """Return the rows of a table as samples: one column as texts, one as labels.

    A text becomes the numbers of its first words (:mod:`fedfuse.data.words`), once for the same
    content: later runs find them in the cache.

    Args:
        path: A CSV, TSV or parquet file, or a folder with train.* and test.* (a validation file
            stands in for a missing test file). Without a test file the run holds rows back.
        name: The data set's name; None for the file's or folder's.
        text_column: The column of texts; None to find it (``text``, ``sentence``, ``content``,
            ``review``, ... or the only one of text beside the label).
        label_column: The column to predict: names or whole numbers; None to find it (``label``,
            ``labels``, ``target``, ``class``, ``y``).
        words: How many words of a text count at most.

    Raises:
        DataError: If the files are missing or damaged, or a column is not what it should be.
    """
    check_words("text", words)
    splits = find_tables(path)
    files = [file for part in splits.values() for file in part]
    parameters = {
        "columns": (text_column, label_column),
        "words": words,
        "splits": [len(part) for part in splits.values()],
    }
    numbered = {f"{i}-{file.suffix.lower()}": file for i, file in enumerate(files)}
    key = cache_key("text", parameters, numbered)
    return cached(
        name or place(path, WANTED).resolve().stem,
        key,
        lambda: decode_texts(
            read_tables(files, len(splits["train"])),
            len(splits["train"]),
            text_column,
            label_column,
            words,
        ),
    )
