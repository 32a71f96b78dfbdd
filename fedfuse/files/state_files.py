"""The files in which clients' states wait between two messages, and many of them made one.

Where they lie is known to both halves of the app, so that a server on the same machine can save
them without asking for what they hold.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedfuse.safe_text import visible


def state_path(folder: Path, arm: str, client_id: int, token: int) -> Path:
    """Return the safetensors file of one version of a client's state."""
    return folder / f"{arm}-{client_id}-{token:x}.safetensors"


def state_header(content: bytes) -> dict[str, dict[str, Any]]:
    """Return what a stranger's safetensors file says is in it, believed only if it all fits.

    Nothing is allocated: every tensor must be as long as its shape says, one directly behind the
    other, to the end of the file.

    Args:
        content: The file.

    Returns:
        Name to ``dtype``, ``shape`` and ``data_offsets`` (from the end of the header).

    Raises:
        ValueError: If it is no such file, or names something that no client remembers.
    """
    begin = 8 + int.from_bytes(content[:8], "little")
    if not 8 < begin <= min(len(content), LONGEST_HEADER):
        raise ValueError("it has no header")
    try:
        header = json.loads(content[8:begin], object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header cannot be read: {str(error)[:100]}") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    spans = []
    for name, entry in header.items():
        _check_entry(name, entry)
        spans.append(tuple(entry["data_offsets"]))
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise ValueError("its tensors overlap, or leave gaps")
        end = last
    if end != len(content) - begin:
        raise ValueError(f"its tensors have {end} bytes of {len(content) - begin}")
    return header


def state_owners(content: bytes) -> frozenset[int]:
    """Return whose states are in a file of several clients.

    The header of the same clients is the same in every round, and tens of thousands of tensors
    long: one that was believed before, of a file as long, is not read again.

    Raises:
        ValueError: If it is no such file.
    """
    head = memoryview(content)[: 8 + int.from_bytes(content[:8], "little")]
    known = hashlib.sha256(head).digest(), len(content)
    if known not in _believed:
        owners = {name.partition("/")[0] for name in state_header(content)}
        if len(_believed) >= _MOST_BELIEVED:
            _believed.clear()
        _believed[known] = frozenset(map(int, owners))
    return _believed[known]


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; of two values for one name readers disagree which counts."""
    known = dict(pairs)
    if len(known) != len(pairs):
        raise ValueError("a name twice")
    return known


def _check_entry(name: str, entry: Any) -> None:
    """Raise unless an entry is that of one tensor of something that clients remember."""
    if not _NAME.fullmatch(name) or visible(name, None) != name:
        raise ValueError(f"it holds {visible(name, 100)!r}")
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise ValueError(f"'{visible(name, 100)}' has other fields than a tensor")
    shape, offsets, size = entry["shape"], entry["data_offsets"], _SIZES.get(str(entry["dtype"]))
    whole = isinstance(shape, list) and isinstance(offsets, list)
    whole = whole and all(type(i) is int and i >= 0 for i in (*shape, *offsets))
    if size is None or not whole or len(offsets) != 2 or len(shape) > _MOST_DIMS:
        raise ValueError(f"'{visible(name, 100)}' is no tensor of numbers")
    if offsets[1] - offsets[0] != math.prod(shape) * size:
        raise ValueError(f"'{visible(name, 100)}' is not as long as its shape says")


LONGEST_HEADER = 64 * 2**20
"""Bytes of a header; a network of a thousand layers has 300 kB of it, and a message 8 of those."""
_MOST_BELIEVED = 4096
"""Headers of which it is remembered whose they are; of 100,000 small models there are 1,600."""
_believed: dict[tuple[bytes, int], frozenset[int]] = {}
_MOST_DIMS = 16
_FIELDS = {"dtype", "shape", "data_offsets"}
_NAME = re.compile(r"([0-9]{1,18}/)?(twin/)?(model|optimizer|extra)/.{1,500}")
"""A network's, an optimiser's or a part's tensor; of several clients, with the client before it,
and of a local twin, with that."""
_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of a number of each type."""


def merged(files: Mapping[int, bytes]) -> bytes:
    """Return the states of several clients as one safetensors file, names ``ID/NAME``.

    The tensors' bytes are moved as they are: nothing is parsed but the files' headers.

    Args:
        files: Client id to its state file, names ``NAME``.

    Raises:
        ValueError: If one of them is no safetensors file.
    """
    header: dict[str, Any] = {}
    bodies, end = [], 0
    for client_id, content in files.items():
        begin = 8 + int.from_bytes(content[:8], "little")
        try:
            entries = state_header(content)
        except ValueError as error:
            raise ValueError(f"the state of client {client_id}: {error}") from error
        for name, entry in entries.items():
            first, last = entry["data_offsets"]
            header[f"{client_id}/{name}"] = {**entry, "data_offsets": [end + first, end + last]}
        bodies.append(memoryview(content)[begin:])
        end += len(content) - begin
    return framed(header, bodies)


def framed(header: Mapping[str, Any], bodies: Sequence[memoryview]) -> bytes:
    """Return a safetensors file.

    Args:
        header: Name to ``dtype``, ``shape`` and ``data_offsets``.
        bodies: The tensors' bytes, one behind the other.
    """
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # the format wants what follows aligned
    return b"".join([len(head).to_bytes(8, "little"), head, *bodies])
