"""Columns of a table to float32 features: numbers as they are, categories one-hot."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.data.images import machine_memory
from fedfuse.errors import DataError, DataWarning

MOST_CATEGORIES = 1000
"""Different texts of a column; more are free text or names of things."""
UNNAMED = frozenset({"", "Unnamed: 0", "__index_level_0__"})
"""What pandas calls the column of row numbers, which is no feature."""

_OTHERWISE = re.compile(r"[-+]?[$€£¥]? ?(\d+|\d{1,3}([.,' ]\d{3})+)([.,]\d+)? ?[%$€£¥]?", re.ASCII)
"""A number with a decimal comma, with thousands set apart, of per cent or of money."""


@dataclass(frozen=True, slots=True)
class Column:
    """What becomes of a column.

    Args:
        name: Its name.
        categories: The different values in the training files, in order; None for a number.
    """

    name: str
    categories: tuple[str, ...] | None

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that it becomes.

        >>> Column("size", None).features, Column("colour", ("blue", "red")).features
        (('size',), ('colour=blue', 'colour=red'))
        """
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)


def find_features(
    names: Sequence[str],
    label: str,
    drop: Collection[str],
    categorical: Collection[str],
    where: str,
) -> list[str]:
    """Return the columns that are features: all but the label and those to be dropped.

    Raises:
        DataError: If a column that is named is not there, or none is left.
    """
    given = {"drop": drop, "categorical": categorical}
    for key, wanted in given.items():
        if absent := [name for name in wanted if name not in names]:
            raise DataError(
                f"No column '{absent[0]}' in {where}",
                got=f"columns {', '.join(names[:10])}" + (", ..." if len(names) > 10 else ""),
                next_step=f"Correct dataset.{key}.",
            )
    found = [name for name in names if name not in {label, *drop} and name not in UNNAMED]
    if not found:
        raise DataError(
            f"{where} has no column beside the label and those left out",
            got=f"columns {', '.join(names)}",
            next_step="Shorten dataset.drop, or add columns.",
        )
    return found


def fit(
    tables: Mapping[str, Any], names: Sequence[str], categorical: Collection[str]
) -> list[Column]:
    """Return what becomes of each column, as the training files tell.

    Args:
        tables: A ``pyarrow.Table`` by each training file in words.
        names: The columns that are features.
        categorical: Those of them that are categories though they are numbers.

    Raises:
        DataError: If a column is missing, or is neither numbers nor categories.
    """
    columns = []
    for name in names:
        parts = {place: _column(table, name, place) for place, table in tables.items()}
        if name not in categorical and all(_is_number(part.type) for part in parts.values()):
            columns.append(Column(name, None))
            continue
        values: dict[str, None] = {}
        rows = sum(map(len, parts.values()))
        for place, part in parts.items():
            if name not in categorical:
                _refuse_numbers(part, name, place)
            values |= dict.fromkeys(_texts(part))
        most = min(MOST_CATEGORIES, max(20, rows // 2))
        if len(values) > most:
            raise DataError(
                f"Column '{name}' of {next(iter(parts))} holds text, and no categories",
                got=f"{len(values)} different values in {rows} rows",
                allowed=f"numbers, or at most {most} different values",
                next_step=f"Leave it out: dataset.drop=['{name}']. Texts to be classified are read "
                "with dataset=text.",
            )
        columns.append(Column(name, tuple(sorted(values))))
    return columns


def encode(
    tables: Mapping[str, Any], columns: Sequence[Column], *, trained: Collection[str]
) -> list[npt.NDArray[np.float32]]:
    """Return the features of each file, float32 [n, F].

    A category that no training file has becomes 0 in all features of its column, with a warning.

    Args:
        tables: A ``pyarrow.Table`` by each file in words.
        columns: What becomes of each column.
        trained: The training files.

    Raises:
        DataError: If a column is missing or of another kind, a number is missing, or the features
            do not fit into memory.
    """
    width = sum(len(column.features) for column in columns)
    rows = sum(table.num_rows for table in tables.values())
    if (size := 4 * rows * width) > (memory := machine_memory()):
        raise DataError(
            "The table is larger than this machine's memory once its categories are features",
            got=f"{rows} rows of {width} features, {size} bytes",
            allowed=f"{memory} bytes",
            next_step="Leave columns with many categories out: dataset.drop=[NAME].",
        )
    encoded, unseen = [], []
    for place, table in tables.items():
        out, begin = np.zeros((table.num_rows, width), dtype=np.float32), 0
        for column in columns:
            values = _column(table, column.name, place)
            if column.categories is None:
                out[:, begin] = _numbers(values, column.name, place)
            else:
                number = {category: i for i, category in enumerate(column.categories)}
                texts = _texts(values)
                at = np.array([number.get(text, -1) for text in texts], dtype=np.int64)
                known = np.flatnonzero(at >= 0)
                out[known, begin + at[known]] = 1
                if place not in trained and len(known) < len(at):
                    new = next(text for text in texts if text not in number)
                    unseen.append(f"'{new}' of column '{column.name}' in {len(at) - len(known)}")
            begin += len(column.features)
        encoded.append(out)
    if unseen:
        warnings.warn(
            "Rows of the test part have categories that no training row has, and count as none: "
            f"{'; '.join(unseen[:3])} rows{' and more' if len(unseen) > 3 else ''}.",
            DataWarning,
            stacklevel=3,
        )
    return encoded


def _column(table: Any, name: str, place: str) -> Any:
    import pyarrow as pa

    if name not in table.column_names:
        raise DataError(
            f"No column '{name}' in {place}",
            got=f"columns {', '.join(table.column_names[:10])}",
            next_step="Give every file the same columns, or leave it out of all: "
            f"dataset.drop=['{name}'].",
        )
    values = table.column(name)
    if pa.types.is_dictionary(values.type):  # pandas' categories
        values = values.cast(values.type.value_type)
    kind = values.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or _is_number(kind)):
        image = pa.types.is_struct(kind) or pa.types.is_binary(kind)
        empty = pa.types.is_null(kind)
        raise DataError(
            f"Column '{name}' of {place} is empty"
            if empty
            else f"Column '{name}' of {place} holds neither numbers nor categories",
            got=f"type {kind}",
            allowed="numbers, or names of categories",
            next_step=(
                "Images in a table are read with dataset=hub; else leave"
                if image
                else "Convert it, or leave"
                if not empty
                else "Leave"
            )
            + f" it out: dataset.drop=['{name}'].",
        )
    return values


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _texts(values: Any) -> list[str]:
    """Return categories as text; an empty cell is a category of its own.

    A whole number is the same category whether its file holds integers or, because a cell is
    empty, floats.
    """
    return [_text(value) for value in values.to_pylist()]


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _refuse_numbers(values: Any, name: str, place: str) -> None:
    """Refuse text among numbers: most cells of a column are numbers and some are not."""
    if _is_number(values.type):
        return
    texts = [value for value in values.to_pylist() if value]
    wrong = [text for text in texts if not _is_numeral(text)]
    odd = [text for text in wrong if _OTHERWISE.fullmatch(text.strip())]
    if odd and len(wrong) - len(odd) < len(texts) / 2:
        raise DataError(
            f"Column '{name}' of {place} holds numbers that are written in another way",
            got=f"'{odd[0][:40]}'",
            allowed="digits with a point before decimals, such as 1234.5",
            next_step=f"Write them so (pandas.read_csv takes decimal=',' and thousands=','), or "
            f"take them for categories: dataset.categorical=['{name}'].",
        )
    if wrong and len(wrong) < len(texts) / 2:
        row = next(i for i, value in enumerate(values.to_pylist()) if value == wrong[0])
        raise DataError(
            f"Column '{name}' of {place} holds text among numbers",
            got=f"'{wrong[0][:40]}' in row {row}, counted from 0",
            allowed="numbers, or names of categories",
            next_step=f"Correct the cell, or take its values for categories: "
            f"dataset.categorical=['{name}'].",
        )


def _is_numeral(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(values: Any, name: str, place: str) -> npt.NDArray[np.float32]:
    """Return numbers; a cell without one is refused."""
    import pyarrow as pa

    where = f"Column '{name}' of {place}"
    if not _is_number(values.type):
        raise DataError(
            f"{where} holds text, and numbers in the training file",
            got=f"'{str(next(iter(values.to_pylist())))[:40]}'",
            next_step=f"Correct it, or leave it out: dataset.drop=['{name}'].",
        )
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    with np.errstate(over="ignore"):
        wide = values.cast(pa.float64(), safe=False)  # whole numbers above 2^53 are rounded
        numbers = np.asarray(wide.to_numpy(), dtype=np.float32)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        cell = values[int(wrong[0])].as_py()
        raise DataError(
            f"{where} has cells without a finite number",
            got=f"{len(wrong)} of {len(numbers)}, the first in row {wrong[0]}, counted from 0"
            + ("" if cell is None else f" ({cell})"),
            next_step=f"Fill them (pandas: table['{name}'].fillna(...)) or remove the rows, or "
            f"leave the column out: dataset.drop=['{name}'].",
        )
    return numbers
