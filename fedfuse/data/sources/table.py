"""Tables: columns of numbers and categories, and one of labels, from CSV or parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.class_column import class_ids, find_label
from fedfuse.data.features import encode, find_features, fit
from fedfuse.data.files import place
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.data.table_files import WANTED, find_tables, read_tables
from fedfuse.errors import require
from fedfuse.types import Samples


def table(
    path: str | Path,
    name: str | None = None,
    label_column: str | None = None,
    drop: str | Sequence[str] | None = (),
    categorical: str | Sequence[str] | None = (),
) -> RawDataset:
    """Return a table's rows as samples: its columns as features, one column as labels.

    Numbers stay what they are and are standardised later, by mean and deviation of the training
    rows alone (:func:`fedfuse.data.raw.feature_statistics`); columns of text become one feature a
    category, 0 or 1, of the categories that the training files have. An empty cell is a category
    of its own among categories, and refused among numbers and labels. Row numbers that pandas
    writes are no feature.

    Args:
        path: A CSV, TSV or parquet file, or a folder with train.* and test.* (a validation file
            stands in for a missing test file). Without a test file the run holds rows back.
        name: The data set's name; None for the file's or folder's.
        label_column: The column to predict: names or whole numbers; None to find it (``label``,
            ``labels``, ``target``, ``class``, ``y``).
        drop: Columns that are no features.
        categorical: Columns that are categories though they hold numbers.

    Raises:
        DataError: If the files are missing or damaged, or a column is not what it should be.
    """
    drop, categorical = _names("drop", drop), _names("categorical", categorical)
    splits = find_tables(path)
    root = place(path, WANTED)
    files = [file for part in splits.values() for file in part]
    keep = {"label": label_column, "drop": sorted(drop), "categorical": sorted(categorical)}
    # Raised whenever a table is read otherwise.
    parameters = {**keep, "splits": [len(part) for part in splits.values()], "reading": 2}
    numbered = {f"{i}-{file.suffix.lower()}": file for i, file in enumerate(files)}

    def decode() -> Decoded:
        tables = read_tables(files, len(splits["train"]))
        training = list(tables)[: len(splits["train"])]
        names, where = tables[training[0]].column_names, training[0]
        label = find_label(names, label_column, where)
        features = find_features(names, label, drop, categorical, where)
        for each, found in tables.items():
            find_label(found.column_names, label, each)
        labels, classes = class_ids(
            {each: found.column(label) for each, found in tables.items()}, len(training), label
        )
        columns = fit({each: tables[each] for each in training}, features, categorical)
        inputs = encode(tables, columns, trained=training)
        cut = len(training)
        train = Samples(np.concatenate(inputs[:cut]), np.concatenate(labels[:cut]))
        test = (
            Samples(np.concatenate(inputs[cut:]), np.concatenate(labels[cut:]))
            if inputs[cut:]
            else None
        )
        return Decoded(train, test, classes, tuple(f for c in columns for f in c.features))

    key = cache_key("table", parameters, numbered)
    return cached(name or root.resolve().stem, key, decode)


def _names(key: str, given: object) -> list[str]:
    """Return names of columns, of which one may stand alone."""
    names = [given] if isinstance(given, str | int) else given
    fit = names is None or isinstance(names, Sequence)
    require(fit, "table", key, given, "a list of columns, as [age,size]")
    return [str(name) for name in names or ()]  # type: ignore[attr-defined]
