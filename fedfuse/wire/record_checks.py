"""What every message is made of, looked at before it is trusted: records, arrays, client ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.errors import KnowledgeError
from fedfuse.wire.npy import parse_array

MOST_ARRAYS = 100_000
"""Arrays in a record; no exchange needs more than a few per client."""


def take(records: Mapping[str, Any], name: str, what: str) -> Any:
    """Return the record ``name``.

    Raises:
        KnowledgeError: If there is none of the right kind.
    """
    if name not in records:
        raise KnowledgeError(f"{what} has no record '{name}'", allowed="one of the right kind")
    return records[name]


def read_arrays(record: Mapping[str, Any], what: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a record by name, read-only views of its bytes.

    Args:
        record: Names to objects with the attributes ``stype`` and ``data``, as Flower has them.
        what: The record, for messages.

    Raises:
        KnowledgeError: If an entry is no array of numbers.
    """
    if len(record) > MOST_ARRAYS:
        raise KnowledgeError(f"{what} has too many arrays", got=len(record), allowed=MOST_ARRAYS)
    arrays = {}
    for name, entry in record.items():
        if entry.stype != "numpy.ndarray":
            raise KnowledgeError(f"'{name[:100]}' cannot be read", got=f"type {entry.stype[:100]}")
        arrays[name] = parse_array(entry.data, name[:100])
    return arrays


def read_ids(record: Mapping[str, Any], what: str, allowed: Collection[int]) -> tuple[int, ...]:
    """Return the client ids that a record lists.

    Args:
        record: Holds one array ``client_ids``.
        what: Who says so, for messages.
        allowed: The ids that may be listed.

    Raises:
        KnowledgeError: If the ids are no int64 [k], appear twice or are not allowed.
    """
    entry = take(record, "client_ids", what)
    array = read_arrays({"client_ids": entry}, what)["client_ids"]
    if array.dtype != np.int64 or array.ndim != 1:
        raise KnowledgeError(
            f"The client ids of {what} are malformed",
            got=f"{array.dtype} of shape {list(array.shape)}",
            allowed="int64 [k]",
        )
    if len(array) > len(allowed):
        raise KnowledgeError(
            f"{what} lists too many client ids", got=len(array), allowed=f"at most {len(allowed)}"
        )
    ids = tuple(array.tolist())
    strange = sorted(set(ids) - set(allowed))
    if len(set(ids)) != len(ids) or strange:
        raise KnowledgeError(
            f"{what} lists client ids that it should not",
            got=f"{strange[:10]}" if strange else "an id twice",
            allowed=f"distinct ids out of {len(allowed)} known ones",
        )
    return ids
