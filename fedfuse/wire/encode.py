"""Turn payloads into named NumPy arrays and back, trusting nothing that arrives.

An array travels under its field's name; a field that is None does not travel. Text travels as
UTF-8 bytes (uint8 [bytes]): a word out of a ``StrEnum`` as it is, a tuple of names with a line
break between them. Nothing is pickled, so reading a payload runs no code of its sender.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.payload import ArrayField, Payload, TextField, for_all, is_for_all
from fedfuse.payload.fields import FINITE, Declared, flat_fields, schema
from fedfuse.wire.schema import (
    Expectation,
    check_flat,
    check_header,
    check_ids,
    check_names,
    check_size,
    check_values,
    numpy_type,
)

__all__ = ["Expectation", "decode", "encode", "once", "spread", "without"]

Arrays = Mapping[str, npt.NDArray[Any]]
Read = TypeVar("Read", bound=Payload)


def encode(value: Payload) -> dict[str, npt.NDArray[Any]]:
    """Return ``value`` as named arrays.

    Contiguous CPU tensors are not copied: the arrays share their memory. Nor is one row for all
    clients, whose array is a view of that row (:func:`once` and :func:`spread` carry it as one).

    Raises:
        KnowledgeError: If a tensor has another dtype than its field, or a name cannot be written.

    >>> from fedfuse.types import ClientMetrics
    >>> metrics = ClientMetrics(torch.tensor([3]), ("loss",), torch.zeros(1, 1).double())
    >>> arrays = encode(metrics)
    >>> {name: array.tolist() for name, array in arrays.items()}
    {'client_ids': [3], 'names': [108, 111, 115, 115], 'values': [[0.0]]}
    >>> decode(ClientMetrics, arrays).names
    ('loss',)
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, declared in schema(type(value)).items():
        item, field = getattr(value, name), declared.field
        if item is None and declared.optional:
            continue
        if isinstance(field, TextField):
            arrays[name] = _write_text(name, (item,) if isinstance(item, str) else item)
            continue
        if not isinstance(item, Tensor) or item.dtype != field.dtype:
            raise KnowledgeError(
                f"'{name}' has the wrong type",
                got=getattr(item, "dtype", type(item).__name__),
                allowed=str(numpy_type(field.dtype)),
            )
        row, alike = item.detach(), is_for_all(item)
        row = (row[0] if alike else row).cpu().contiguous()
        arrays[name] = (for_all(row, len(item)) if alike else row).numpy()
    return arrays


def once(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a payload, less all rows but the first of what is one for all clients.

    >>> alike = np.broadcast_to(np.zeros(2), (3, 2))
    >>> {name: array.shape for name, array in once({"told": alike, "own": np.zeros(3)}).items()}
    {'told': (1, 2), 'own': (3,)}
    """
    return {
        name: array[:1] if array.ndim and len(array) > 1 and array.strides[0] == 0 else array
        for name, array in arrays.items()
    }


def spread(cls: type[Payload], arrays: Arrays) -> Arrays:
    """Return what :func:`once` shortened as it was, of as many rows as there are clients: views.

    Only what a server sends may be so short; nothing is checked here but what it takes to do it.
    """
    ids, flat, fields = arrays.get("client_ids"), flat_fields(cls), schema(cls)
    if not isinstance(ids, np.ndarray) or ids.ndim != 1:
        return arrays
    return {
        name: np.broadcast_to(array, (len(ids), *array.shape[1:]))
        if name in fields
        and name not in flat
        and isinstance(fields[name].field, ArrayField)
        and isinstance(array, np.ndarray)
        and array.shape[:1] == (1,)
        else array
        for name, array in arrays.items()
    }


def decode(cls: type[Read], arrays: Mapping[str, Any], expect: Expectation | None = None) -> Read:
    """Return the payload that ``arrays`` hold, after checking all of it.

    Arrays that are writable and contiguous are not copied: the tensors share their memory.

    Args:
        cls: What should have arrived.
        arrays: Field name to array.
        expect: What was asked for; None where nobody knows.

    Raises:
        KnowledgeError: If a field is missing, unknown or not asked for, has another dtype, rank or
            shape than it should, disagrees with another field or with ``expect``, or holds ids
            that do not ascend, or numbers that are not finite or not within their bounds.
    """
    fields = schema(cls)
    check_names(cls.__name__, arrays, fields, expect)
    found: dict[str, Any] = dict.fromkeys(fields)
    sizes = {} if expect is None else expect.known()
    # Every header is checked before the first number is read.
    for name, declared in fields.items():
        if name in arrays:
            array, field = arrays[name], declared.field
            check_header(name, array, field, sizes)
            if isinstance(field, TextField):
                found[name] = _read_text(name, array, declared)
                if field.dim is not None:
                    check_size(field.dim, len(found[name]), name, sizes)
            else:
                found[name] = _to_tensor(array)
    check_ids(found["client_ids"], expect)
    for name, declared in fields.items():
        field = declared.field
        if found[name] is None or isinstance(field, TextField):
            continue
        if field.lengths is not None:
            check_flat(name, found[name], field, found, expect)
            continue
        holds = field.only_if is None or found[field.only_if[0]] == field.only_if[1]
        bounds = field.bounds if holds else FINITE
        check_values(name, found[name], bounds, found["client_ids"])
        if bounds.sum_to_one and bool((found[name] < 0).any()):
            found[name] = found[name].clamp(min=0)  # rounding's hair; its logarithm is NaN
    return cls(**found)


def without(cls: type[Payload], arrays: Arrays, client_ids: Sequence[int]) -> Arrays:
    """Return a payload's arrays less the rows of some clients, before anything of it is believed.

    Raises:
        KnowledgeError: If nobody can tell which rows those are.
    """
    ids = arrays.get("client_ids")
    if not client_ids or ids is None or ids.ndim != 1:
        return arrays
    keep = ~np.isin(ids, np.array(client_ids))
    flat, left = flat_fields(cls), {}
    for name, array in arrays.items():
        declared = schema(cls).get(name)
        if declared is not None and isinstance(declared.field, TextField):
            left[name] = array
            continue
        rows = keep
        if name in flat and (lengths := arrays.get(flat[name])) is not None:
            counted = lengths.dtype.kind == "i" and lengths.shape == ids.shape
            if not counted or bool((lengths < 0).any()) or sum(lengths.tolist()) != len(array):
                raise _inseparable()
            rows = np.repeat(keep, lengths)
        if array.ndim == 0 or len(array) != len(rows):
            raise _inseparable()
        left[name] = array[rows]
    return left


def _inseparable() -> KnowledgeError:
    return KnowledgeError("The reply cannot be read without the clients that were refused")


def _write_text(name: str, words: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Return the words as bytes, a line break between them."""
    if not all(word and word.isprintable() for word in words) or len(set(words)) != len(words):
        raise KnowledgeError(
            f"'{name}' cannot travel",
            got=list(words),
            allowed="distinct printable words",
        )
    return np.frombuffer("\n".join(words).encode(), dtype=np.uint8)


def _read_text(
    name: str, array: npt.NDArray[np.uint8], declared: Declared
) -> StrEnum | tuple[str, ...]:
    """Return what :func:`_write_text` wrote."""
    one_of: type[StrEnum] | None = declared.kind if isinstance(declared.kind, type) else None
    try:
        text = array.tobytes().decode()
        if one_of is not None:
            return one_of(text)
    except ValueError as error:
        allowed = "UTF-8" if one_of is None else ", ".join(one_of)
        raise KnowledgeError(f"'{name}' cannot be read", got=error, allowed=allowed) from error
    words = tuple(text.split("\n")) if text else ()
    if not all(word and word.isprintable() for word in words) or len(set(words)) != len(words):
        raise KnowledgeError(
            f"'{name}' cannot be read", got=list(words)[:20], allowed="distinct printable words"
        )
    return words


def _to_tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return the array as a tensor over the same memory, or over a copy where torch needs one.

    torch has no read-only tensors, so memory that must not be written to is copied; so is what
    is not aligned or not contiguous. One row for all clients stays one.
    """
    if array.ndim and len(array) > 1 and array.strides[0] == 0:
        return for_all(torch.from_numpy(array[:1].copy())[0], len(array))
    return torch.from_numpy(array if array.flags.carray else array.copy(order="C"))
