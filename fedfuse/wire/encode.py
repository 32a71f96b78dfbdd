"""Turn what is exchanged into named NumPy arrays and back, trusting nothing that arrives.

An array travels under its field's name; a field that is None does not travel. Text travels as
UTF-8 bytes (uint8 [bytes]): a :class:`~fedfuse.types.Space` as its value, a tuple of names with a
line break between them. Nothing is pickled, so reading a payload runs no code of its sender.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.exchange.payloads import ClassKnowledge, ModelBank
from fedfuse.types import ClientMetrics, KnowledgeBank, Space, Teachers
from fedfuse.wire.schema import (
    FIELDS,
    ArrayField,
    Expectation,
    TextField,
    check_header,
    check_ids,
    check_models,
    check_names,
    check_size,
    check_values,
)

__all__ = ["Expectation", "decode", "encode"]

Payload = TypeVar("Payload", KnowledgeBank, Teachers, ClientMetrics, ClassKnowledge, ModelBank)


def encode(
    value: KnowledgeBank | Teachers | ClientMetrics | ClassKnowledge | ModelBank,
) -> dict[str, npt.NDArray[Any]]:
    """Return ``value`` as named arrays.

    Contiguous CPU tensors are not copied: the arrays share their memory.

    Raises:
        KnowledgeError: If a tensor has another dtype than its field, or a name cannot be written.

    >>> metrics = ClientMetrics(torch.tensor([3]), ("loss",), torch.zeros(1, 1).double())
    >>> arrays = encode(metrics)
    >>> {name: array.tolist() for name, array in arrays.items()}
    {'client_ids': [3], 'names': [108, 111, 115, 115], 'values': [[0.0]]}
    >>> decode(ClientMetrics, arrays).names
    ('loss',)
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, field in FIELDS[type(value)].items():
        item = getattr(value, name)
        if item is None:
            continue
        if isinstance(field, TextField):
            arrays[name] = _write_text(name, (item,) if isinstance(item, str) else item)
            continue
        if item.dtype != torch.from_numpy(np.empty(0, field.dtype)).dtype:
            raise KnowledgeError(
                f"'{name}' has the wrong type",
                got=item.dtype,
                allowed=field.dtype.__name__,
            )
        arrays[name] = item.detach().cpu().contiguous().numpy()
    return arrays


def decode(
    cls: type[Payload], arrays: Mapping[str, Any], expect: Expectation | None = None
) -> Payload:
    """Return the payload that ``arrays`` hold, after checking all of it.

    Arrays that are writable and contiguous are not copied: the tensors share their memory.

    Args:
        cls: What should have arrived.
        arrays: Field name to array.
        expect: What was asked for; None where nobody knows.

    Raises:
        KnowledgeError: If a field is missing or unknown, has another dtype, rank or shape than it
            should, disagrees with another field or with ``expect``, or holds ids that do not
            ascend, numbers that are not finite, or probabilities that are none.
    """
    fields = FIELDS[cls]
    check_names(cls.__name__, arrays, fields)
    found: dict[str, Any] = dict.fromkeys(fields)
    sizes: dict[str, tuple[int, str]] = {}  # dimension -> its size and who says so
    if expect is not None:
        sizes["P"] = expect.num_public, "what was asked for"
        sizes["C"] = expect.num_classes, "what was asked for"
        if expect.width is not None:
            sizes["D"] = expect.width, "what was asked for"
    # Every header is checked before the first number is read.
    for name, field in fields.items():
        if name in arrays:
            array = arrays[name]
            check_header(name, array, field, sizes)
            if isinstance(field, TextField):
                found[name] = _read_text(name, array, field)
                if name == "names":
                    check_size("M", len(found[name]), name, sizes)
            else:
                found[name] = _to_tensor(array)
    check_ids(found["client_ids"], expect)
    for name, field in fields.items():
        if found[name] is not None and isinstance(field, ArrayField):
            values = field.values
            if name == "targets" and found["space"] is Space.PROBABILITIES:
                values = "simplex"
            if values == "per model":
                check_models(found["sizes"], found[name], found["client_ids"], expect)
            else:
                check_values(name, found[name], values, found["client_ids"])
            if values == "simplex" and bool((found[name] < 0).any()):
                found[name] = found[name].clamp(min=0)  # rounding's hair; its logarithm is NaN
    return cls(**found)


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
    name: str, array: npt.NDArray[np.uint8], field: TextField
) -> Space | tuple[str, ...]:
    """Return what :func:`_write_text` wrote."""
    try:
        text = array.tobytes().decode()
        if field.kind is Space:
            return Space(text)
    except ValueError as error:
        allowed = ", ".join(Space) if field.kind is Space else "UTF-8"
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
    is not aligned or not contiguous.
    """
    return torch.from_numpy(array if array.flags.carray else array.copy(order="C"))
