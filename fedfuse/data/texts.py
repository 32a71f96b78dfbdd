"""Tables with a column of texts and one of labels to rows of word numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedfuse.data.class_column import MOST, class_ids, find_label
from fedfuse.data.classes import unite
from fedfuse.data.raw import Decoded
from fedfuse.data.tables import class_names_of, has_images, labels_of
from fedfuse.data.words import number_words
from fedfuse.errors import DataError
from fedfuse.types import IntArray, Samples

TEXT_COLUMNS = ("text", "sentence", "content", "review", "document", "comment", "question")
_HOW_MANY = "one column of texts and one of labels"


def find_texts(
    schema: Any, where: str, text_column: str | None = None, label_column: str | None = None
) -> tuple[str, str]:
    """Return the names of the text and the label column.

    A given name is taken as it is; else a usual name; else, of texts, the only column of text
    beside the label.

    Args:
        schema: A ``pyarrow.Schema``.
        where: The file in words, for messages.
        text_column: The user's choice, or None.
        label_column: The user's choice, or None.

    Raises:
        DataError: If a column is not there, or not clear.
    """
    label = find_label(schema.names, label_column, where)
    return _find_text(schema, label, text_column, where), label


def _find_text(schema: Any, label: str | None, chosen: str | None, where: str) -> str:
    names: list[str] = list(schema.names)
    texts = [n for n in names if holds_text(schema.field(n).type) and n != label]
    usual = [n for n in texts if n.lower() in TEXT_COLUMNS]
    usual.sort(key=lambda name: TEXT_COLUMNS.index(name.lower()))
    if chosen is not None and chosen in schema.names:
        if chosen == label:
            raise DataError(
                f"Column '{chosen}' of {where} cannot be both the text and the label",
                allowed=_HOW_MANY,
                next_step="Name another one in dataset.text_column or dataset.label_column.",
            )
        return chosen
    if chosen is None and (usual or len(texts) == 1):
        return (usual or texts)[0]
    shown = ", ".join(f"{n} ({schema.field(n).type})" for n in names[:10])
    raise DataError(
        f"No column '{chosen}' in {where}"
        if chosen is not None
        else f"{'Several columns' if texts else 'No column'} of {where} "
        f"{'hold' if texts else 'holds'} text",
        got=f"columns {shown}{', ...' if len(names) > 10 else ''}",
        allowed=_HOW_MANY,
        next_step="Name the right one in dataset.text_column."
        if texts
        else "Read numbers and categories with dataset=table, images with dataset=hub.",
    )


def is_of_texts(schema: Any, image_column: str | None, text_column: str | None) -> bool:
    """Tell whether files that may hold images or texts are to be read for texts.

    Args:
        schema: Their ``pyarrow.Schema``.
        image_column: The user's choice; then they are not.
        text_column: The user's choice; then they are. Without either they are where no column has
            images and one of texts has a usual name.
    """
    if text_column is not None or image_column is not None:
        return image_column is None
    usual = (field for field in schema if field.name.lower() in TEXT_COLUMNS)
    return not has_images(schema) and any(holds_text(field.type) for field in usual)


def holds_text(kind: Any) -> bool:
    """Tell whether a column of this type holds texts."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def decode_texts(
    tables: Mapping[str, Any], num_train: int, text: str | None, label: str | None, words: int
) -> Decoded:
    """Return the decoded pools.

    Labels are names or numbers (:func:`fedfuse.data.class_column.class_ids`), or the hub's class
    ids, whose names are in the files' metadata.

    Args:
        tables: The ``pyarrow.Table`` of each file, by the file in words.
        num_train: How many of them, the first, are training files.
        text: The user's choice of the text column, or None.
        label: The user's choice of the label column, or None.
        words: How many words of a text count at most.

    Raises:
        DataError: If texts or labels are not what they should be.
    """
    first, where = next(iter(tables.values())), next(iter(tables))
    text, label = find_texts(first.schema, where, text, label)
    labels: list[IntArray]
    if all(class_names_of(table.schema, label) for table in tables.values()):
        names = [class_names_of(table.schema, label) for table in tables.values()]
        given = [labels_of(table, label, place) for place, table in tables.items()]
        labels, classes = unite(given, names, list(tables), num_train)
    else:
        columns = {}
        for place, table in tables.items():
            find_label(table.column_names, label, place)
            columns[place] = table.column(label)
        labels, classes = class_ids(columns, num_train, label)
    if len(classes) > MOST:
        raise DataError(
            f"Column '{label}' of {where} has too many classes",
            got=str(len(classes)),
            allowed=f"at most {MOST}",
            next_step="Name another one in dataset.label_column.",
        )
    inputs = [number_words(_texts(table, text, at), words, f"Column '{text}' of {at}")
              for at, table in tables.items()]  # fmt: skip
    pools = [
        Samples(np.concatenate(inputs[part]), np.concatenate(labels[part]))
        for part in (slice(num_train), slice(num_train, None))
        if inputs[part]
    ]
    return Decoded(pools[0], pools[1] if len(pools) > 1 else None, classes)


def _texts(table: Any, text: str, place: str) -> Sequence[str | None]:
    import pyarrow as pa

    if text not in table.column_names:
        _find_text(table.schema, None, text, place)
    values = table.column(text)
    if not holds_text(values.type):
        bytes_ = pa.types.is_binary(values.type) or pa.types.is_struct(values.type)
        raise DataError(
            f"Column '{text}' of {place} does not hold texts",
            got=f"type {values.type}",
            allowed="text",
            next_step="Images are read with dataset=hub dataset.image_column="
            f"'{text}'; else name another column in dataset.text_column."
            if bytes_
            else "Name another column in dataset.text_column; numbers are read with dataset=table.",
        )
    found: list[str | None] = values.to_pylist()
    return found
