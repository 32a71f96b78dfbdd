"""Arrow tables in the Hugging Face hub's layout to arrays: an image column and a label column."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedfuse.data.classes import CONVERT, unite
from fedfuse.data.images import decode_images
from fedfuse.data.raw import Decoded
from fedfuse.errors import DataError
from fedfuse.types import IntArray, Samples

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")
MOST_ENCODED = 2**30
"""Bytes of one image file beside a table."""
_NONE: IntArray = np.empty(0, dtype=np.int64)


def find_columns(
    schema: Any, where: str, image_column: str | None = None, label_column: str | None = None
) -> tuple[str, str]:
    """Return the names of the image and the label column.

    A given name is taken as it is; else a usual name (``image``, ``img``; ``label``,
    ``fine_label``, ``labels``); else the only column of the right kind.

    Args:
        schema: A ``pyarrow.Schema``, with the hub's feature metadata if there is any.
        where: The data set in words, for messages.
        image_column: The user's choice, or None.
        label_column: The user's choice, or None.

    Raises:
        DataError: If a column is missing; the message lists the columns there are.
    """
    kinds = {name: str(feature.get("_type")) for name, feature in _features(schema).items()}
    for name in schema.names:
        if _holds_bytes(schema.field(name).type):
            kinds.setdefault(name, "Image")
    image = _find(schema.names, kinds, "image", image_column, IMAGE_COLUMNS, "Image", where)
    label = _find(schema.names, kinds, "label", label_column, LABEL_COLUMNS, "ClassLabel", where)
    return image, label


def has_images(schema: Any) -> bool:
    """Tell whether a column of a ``pyarrow.Schema`` holds images, or is called like one."""
    kinds = [str(feature.get("_type")) for feature in _features(schema).values()]
    named = any(name in IMAGE_COLUMNS for name in schema.names)
    return named or "Image" in kinds or any(_holds_bytes(field.type) for field in schema)


def decode_tables(
    tables: Mapping[str, Mapping[str, Any]],
    columns: tuple[str, str],
    where: str,
    image_size: int | None = None,
    read_files: bool = False,
) -> Decoded:
    """Return the decoded pools.

    Args:
        tables: By pool, ``train`` and perhaps ``test``: the ``pyarrow.Table`` of each file, by the
            file's name in words.
        columns: Names of the image and the label column.
        where: The data set in words, for messages.
        image_size: As in :func:`fedfuse.data.images.decode_images`.
        read_files: Whether an image without bytes may be read from the path beside it.

    Raises:
        DataError: If images or labels are not what they should be.
    """
    image, label = columns
    blobs: list[bytes] = []
    sources: list[str] = []
    labels: list[IntArray] = []
    for pool, files in tables.items():
        split = f"the {pool} split of {where}"
        begin = len(blobs)
        for table in files.values():
            blobs.extend(_blobs(table, image, split, read_files))
            labels.append(labels_of(table, label, split))
        if len(blobs) == begin:
            raise DataError(f"No rows in {split}")
        sources.extend(f"row {row} of {split}" for row in range(len(blobs) - begin))
    # All pools at once: whether the set is grey or colour is decided over the whole of it.
    pixels = decode_images(len(blobs), blobs.__getitem__, sources.__getitem__, image_size)
    flat = {place: table for files in tables.values() for place, table in files.items()}
    names = [class_names_of(table.schema, label) for table in flat.values()]
    num_train = len(tables["train"])
    united, classes = unite(labels, names, list(flat), num_train)
    train, test = (
        np.concatenate([_NONE, *part]) for part in (united[:num_train], united[num_train:])
    )
    return Decoded(
        train=Samples(pixels[: len(train)], train),
        test=Samples(pixels[len(train) :], test) if len(test) else None,
        class_names=classes,
    )


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return the hub's description of the columns, or nothing where there is none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {k: v for k, v in features.items() if isinstance(v, dict)}
    except (TypeError, KeyError, ValueError, AttributeError):
        return {}


def class_names_of(schema: Any, label: str) -> tuple[str, ...]:
    """Return the names of classes that the hub's metadata give a column; none without them."""
    names = _features(schema).get(label, {}).get("names")
    return tuple(str(n) for n in names) if isinstance(names, list) else ()


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _find(
    names: list[str],
    kinds: dict[str, str],
    role: str,
    chosen: str | None,
    usual: tuple[str, ...],
    kind: str,
    where: str,
) -> str:
    fitting = [name for name in names if kinds.get(name) == kind]
    if chosen is not None:
        candidates = [chosen] if chosen in names else []
    else:
        candidates = [name for name in usual if name in names][:1] or fitting
    if len(candidates) == 1:
        return candidates[0]
    raise DataError(
        f"No {role} column in {where}" if chosen is None else f"No column '{chosen}' in {where}",
        got=f"columns {', '.join(names)}",
        next_step=f"Name the right one in dataset.{role}_column."
        + (
            " A table is read with dataset=table; texts with dataset=text."
            if role == "image"
            else ""
        ),
    )


def _blobs(table: Any, column: str, where: str, read_files: bool) -> list[bytes]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table.column(column)
    if not _holds_bytes(values.type):
        raise DataError(
            f"Column '{column}' of {where} does not hold encoded images",
            got=str(values.type),
            allowed="bytes, or a struct with a field 'bytes'",
            next_step="Name another column in dataset.image_column"
            + (
                f"; texts are read with dataset.text_column='{column}'."
                if pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
                else "."
            ),
        )
    paths: list[str | None] = [None] * len(values)
    if pa.types.is_struct(values.type):
        if read_files and any(field.name == "path" for field in values.type):
            paths = pc.struct_field(values, "path").to_pylist()
        values = pc.struct_field(values, "bytes")
    blobs: list[bytes] = values.to_pylist()
    for row, blob in enumerate(blobs):
        if blob is None:
            path = paths[row]
            beside = path is not None and Path(path).is_file()
            if not beside or Path(str(path)).stat().st_size > MOST_ENCODED:
                raise DataError(f"Row {row} of column '{column}' of {where} holds no image bytes")
            blobs[row] = Path(str(path)).read_bytes()
    return blobs


def labels_of(table: Any, column: str, where: str) -> IntArray:
    """Return the class ids of a column, int64 [n].

    Raises:
        DataError: If it does not hold whole numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table.column(column)
    if not pa.types.is_integer(values.type) or values.null_count:
        empty = values.null_count
        if pa.types.is_floating(values.type):
            empty += pc.sum(pc.is_nan(values)).as_py() or 0
        got = f"type {values.type}" + (f" with {empty} empty" if empty else "")
        raise DataError(
            f"Column '{column}' of {where} does not hold integer class ids",
            got=got,
            allowed="integers from 0, none empty",
            next_step="Remove the rows whose label is empty."
            if empty
            else f"Name another column in dataset.label_column, or convert this one: {CONVERT}.",
        )
    try:
        return np.asarray(values.cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"Column '{column}' of {where} holds a number that is no class id",
            got=pc.max(values).as_py(),
            next_step=f"Name another one in dataset.label_column, or convert it: {CONVERT}.",
        ) from error
