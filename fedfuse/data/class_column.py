"""A column of labels, names or whole numbers, to class ids; what is no class is refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedfuse.data.classes import tidy
from fedfuse.errors import DataError, DataWarning
from fedfuse.types import IntArray

USUAL = ("label", "labels", "target", "class", "y")
MOST = 1000
"""Different labels; more are ids or measurements."""
FEW, EACH, EACH_NAME = 20, 5, 2
"""Above so many different labels, each number and each name must come so often on average, or they
are measurements and texts."""
MOST_EXACT = 2.0**53
"""Above it floats skip whole numbers."""


def find_label(names: Sequence[str], chosen: str | None, where: str) -> str:
    """Return the name of the label column: the chosen one, else the first usual name.

    Raises:
        DataError: If it is not there; the message lists the columns.
    """
    usual = [name for name in names if name.lower() in USUAL]
    usual.sort(key=lambda name: USUAL.index(name.lower()))
    found = [name for name in names if name == chosen] if chosen is not None else usual
    if found:
        return found[0]
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise DataError(
        f"No label column in {where}" if chosen is None else f"No column '{chosen}' in {where}",
        got=f"columns {shown}",
        next_step="Name the one to predict in dataset.label_column.",
    )


def class_ids(
    columns: Mapping[str, Any], num_train: int, label: str
) -> tuple[list[IntArray], tuple[str, ...]]:
    """Return the class ids of each file, int64 [n], and the names of the classes.

    Classes are the different labels of the training files: names in their order, numbers in
    theirs. White space around a name is not part of it.

    Args:
        columns: The label column, a pyarrow array, by its file in words.
        num_train: How many of the files, the first, are training files.
        label: The column's name.

    Raises:
        DataError: If labels are missing, are measurements or ids, or a test label is of a class
            that no training file has.
    """
    read = {place: _labels(values, label, place) for place, values in columns.items()}
    places = list(read)
    training = [value for place in places[:num_train] for value in read[place]]
    numbers = all(isinstance(value, int) for part in read.values() for value in part)
    different: list[Any] = sorted(set(training)) if numbers else sorted({str(v) for v in training})
    many = len(different)
    each = EACH if numbers else EACH_NAME
    measured = many > max(FEW, len(training) / each)
    if many > MOST or measured:
        raise DataError(
            f"Column '{label}' of {places[0]} holds too many different labels to be classes"
            + (": a quantity to be predicted (regression) is no class" if numbers else ""),
            got=f"{many} different ones in {len(training)} rows",
            allowed=f"at most {MOST}"
            + (f", and on average {each} rows of each" if measured and many <= MOST else ""),
            next_step="Name another one in dataset.label_column, or cut it into classes "
            "(pandas.cut) first.",
        )
    if not numbers:
        _warn_of_case(different, label)
    known = {value: i for i, value in enumerate(different)}
    ids = []
    for place in places:
        values = read[place] if numbers else [str(value) for value in read[place]]
        unknown = sorted({value for value in values if value not in known})
        if unknown:
            raise DataError(
                f"{place} has classes that the training data has not",
                got=", ".join(map(str, unknown[:5])),
                allowed=", ".join(map(str, different[:20])),
            )
        ids.append(np.array([known[value] for value in values], dtype=np.int64))
    return ids, tidy(map(str, different), places[0])


def _labels(values: Any, label: str, place: str) -> list[Any]:
    """Return labels as integers or text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    where = f"Column '{label}' of {place}"
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        kind, values = values.type, values.cast(pa.float64())
        values = pc.if_else(pc.is_nan(values), None, values)
        # Larger ones, infinity among them, are no exact whole numbers.
        exact = pc.and_(pc.equal(values, pc.round(values)), pc.less(pc.abs(values), MOST_EXACT))
        whole = pc.all(exact).as_py()
        if values.null_count < len(values) and not whole:
            raise DataError(
                f"{where} holds quantities (regression), and classes are predicted",
                got=f"{kind}, {len(values.unique())} different ones in {len(values)} rows",
                allowed="names or whole numbers",
                next_step="Name another one in dataset.label_column, or cut it into classes "
                "(pandas.cut) first.",
            )
        values = values.cast(pa.int64())
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.string())
    kind = values.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    values = pc.utf8_trim_whitespace(values) if text else values
    empty = values.null_count + (int(pc.sum(pc.equal(values, "")).as_py() or 0) if text else 0)
    if empty:
        raise DataError(
            f"{where} has empty cells",
            got=f"{empty} of {len(values)}",
            next_step="Remove the rows without a label.",
        )
    if not text and not pa.types.is_integer(kind):
        raise DataError(
            f"{where} does not hold labels",
            got=f"type {kind}",
            allowed="names or whole numbers",
            next_step="Name another one in dataset.label_column.",
        )
    found: list[Any] = values.to_pylist()
    return found


def _warn_of_case(names: Sequence[str], label: str) -> None:
    """Warn of names that differ in upper and lower case alone; letters may be classes."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name and len(name) > 1:
            warnings.warn(
                f"'{other}' and '{name}' of column '{label}' are taken for two classes: they "
                "differ in upper and lower case. Write them alike if they are one.",
                DataWarning,
                stacklevel=4,
            )
            return
