"""Make something hostile out of something honest: bytes, arrays, and whole messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedfuse.errors import KnowledgeError
from fedfuse.wire.npy import parse_array

Rng = np.random.Generator

INTEGERS = (0, 1, -1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1)
FLOATS = (0.0, -1.0, 1e-38, 1e9, 3.4e38, -3.4e38, float("nan"), float("inf"), -float("inf"))
TEXTS = (
    "",
    "\x00",
    "\x1b[2J",
    "x" * 100_000,
    "[" * 50_000,
    "null",
    "{}",
    "[1]",
    '[{"a": 1}]',
    "9" * 6000,
)
SHAPES = ("()", "(0,)", "(-1,)", "(1000000000000000,)", "(2, 1000000000000)", "(1,)", "x", "((")
TYPES = ("<f4", "<f8", "<i8", ">i8", "|u1", "|b1", "|O", "<U9", "|V8", "<c8", "x")


def bend_bytes(data: bytes, rng: Rng) -> bytes:
    """Return the bytes with bits flipped, a piece cut out, doubled, overwritten or appended."""
    if not data:
        return rng.bytes(int(rng.integers(1, 64)))
    bent = bytearray(data)
    start = int(rng.integers(len(bent)))
    length = int(rng.integers(1, 65))
    way = rng.integers(6)
    if way == 0:
        for place in rng.integers(len(bent), size=int(rng.integers(1, 9))):
            bent[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del bent[start : start + length]
    elif way == 2:
        bent[start:start] = bent[start : start + length]
    elif way == 3:
        bent[start : start + length] = rng.bytes(length)
    elif way == 4:
        del bent[start:]
    else:
        bent += rng.bytes(length)
    return bytes(bent)


def bend_values(array: np.ndarray, rng: Rng) -> np.ndarray:
    """Return the array with some numbers, its type, its shape or its order changed."""
    bent = np.array(array)
    way = rng.integers(12)
    if way >= 7 and bent.size:
        pool: tuple[Any, ...] = FLOATS if bent.dtype.kind == "f" else INTEGERS
        value = pool[int(rng.integers(len(pool)))]
        first = int(rng.integers(bent.size))
        where = slice(first, first + int(rng.integers(1, 4)))
        with np.errstate(all="ignore"):
            flat = bent.reshape(-1)
            flat[where] = np.array(value).astype(bent.dtype)
            return flat.reshape(bent.shape)
    if way == 3:
        kind = ("f4", "f8", "i4", "i8", "u1", "?", "f2")[int(rng.integers(7))]
        with np.errstate(all="ignore"):
            return bent.astype(kind)
    if way == 4:
        return bent[None] if rng.integers(2) else bent.reshape(-1)
    if way == 5 and len(bent.shape):
        return np.concatenate([bent, bent]) if rng.integers(2) else bent[:-1]
    if way == 6 and len(bent.shape):
        return np.asfortranarray(bent[rng.permutation(len(bent))])
    return np.zeros((0, *bent.shape[1:]), dtype=bent.dtype)


def bend_header(array: np.ndarray, rng: Rng) -> bytes:
    """Return npy bytes whose header lies about shape or type."""
    shape = SHAPES[int(rng.integers(len(SHAPES)))] if rng.integers(2) else str(array.shape)
    kind = TYPES[int(rng.integers(len(TYPES)))] if rng.integers(2) else array.dtype.str
    order = ("False", "True", "0")[int(rng.integers(3))]
    text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + array.tobytes()


def bend_array(entry: Array, rng: Rng) -> Array:
    """Return one array of a message, changed."""
    try:
        array = parse_array(entry.data, "it")
    except KnowledgeError:  # changed before
        return Array(entry.dtype, entry.shape, entry.stype, bend_bytes(entry.data, rng))
    way = rng.integers(6)
    stype = "numpy.ndarray" if rng.integers(20) else "pickle"
    if way == 0:
        data = bend_bytes(entry.data, rng)
    elif way == 1:
        data = bend_header(array, rng)
    else:
        return Array(bend_values(array, rng))
    return Array(dtype=entry.dtype, shape=entry.shape, stype=stype, data=data)


def bend_message(content: RecordDict, rng: Rng) -> RecordDict:
    """Return a message with one to three things about it changed; the original stays."""
    records = dict(content.items())
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if not records:
            break
        # Most of the time the numbers: whatever else is wrong is refused before they are read.
        numbers = [n for n in sorted(records) if isinstance(records[n], ArrayRecord)]
        names = numbers if numbers and rng.integers(5) else sorted(records)
        name = names[int(rng.integers(len(names)))]
        records = _WAYS[int(rng.integers(len(_WAYS)))](dict(records), name, rng)
    return RecordDict(records)


Records = dict[str, Any]


def _entry(records: Records, name: str, rng: Rng) -> Records:
    """Change one entry of a record."""
    record = records[name]
    entries = dict(record.items())
    if not entries:
        return records
    key = sorted(entries)[int(rng.integers(len(entries)))]
    if isinstance(record, ArrayRecord):
        entries[key] = bend_array(entries[key], rng)
        records[name] = ArrayRecord(entries)
    else:
        entries[key] = _value(entries[key], rng)
        records[name] = ConfigRecord(entries)
    return records


def _poison(records: Records, name: str, rng: Rng) -> Records:
    """Change a few numbers of one client, and nothing that tells so from the outside."""
    entries = dict(records[name].items())
    if not isinstance(records[name], ArrayRecord):
        return records
    for key in rng.permutation(sorted(entries)):
        try:
            array = np.array(parse_array(entries[key].data, "it"))
        except KnowledgeError:  # changed before
            continue
        if array.dtype.kind == "f" and array.size and array.ndim > 1:
            row = array[int(rng.integers(len(array)))].reshape(-1)
            row[: int(rng.integers(1, 4))] = FLOATS[int(rng.integers(len(FLOATS)))]
            entries[key] = Array(array)
            records[name] = ArrayRecord(entries)
            break
    return records


def _value(value: Any, rng: Rng) -> Any:
    if isinstance(value, str) and rng.integers(2):
        return bend_bytes(value.encode(), rng).decode(errors="replace")
    pool = (*TEXTS, *INTEGERS, True, 0.5, [1, 2], b"\x00")
    return pool[int(rng.integers(len(pool)))]


def _drop(records: Records, name: str, rng: Rng) -> Records:
    """Leave out a record, or an entry of one."""
    entries = dict(records[name].items())
    if rng.integers(2) or not entries:
        del records[name]
    else:
        del entries[sorted(entries)[int(rng.integers(len(entries)))]]
        records[name] = type(records[name])(entries)
    return records


def _rename(records: Records, name: str, rng: Rng) -> Records:
    """Give a record or an entry another's name."""
    if rng.integers(2):
        other = sorted(records)[int(rng.integers(len(records)))]
        records[other] = records[name]
        return records
    entries = dict(records[name].items())
    if entries:
        key = sorted(entries)[int(rng.integers(len(entries)))]
        word = (key + "x", "logits", "../x", "x" * 500, "encoded/y")[int(rng.integers(5))]
        entries[word] = entries[key]
        records[name] = type(records[name])(entries)
    return records


def _kind(records: Records, name: str, rng: Rng) -> Records:
    """Put a record of another kind in its place."""
    empty = bool(rng.integers(2))
    if isinstance(records[name], ArrayRecord):
        records[name] = ConfigRecord({} if empty else {"client_ids": 1})
    else:
        records[name] = ArrayRecord({} if empty else {"json": Array(np.zeros(1))})
    return records


_WAYS: tuple[Callable[[Records, str, Rng], Records], ...] = (
    *[_entry] * 6, *[_poison] * 3, _drop, _rename, _kind,
)  # fmt: skip
