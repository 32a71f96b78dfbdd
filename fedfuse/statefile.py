"""The files in which clients' states wait between two messages, and many of them made one.

Where they lie is known to both halves of the app, so that a server on the same machine can save
them without asking for what they hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def state_path(folder: Path, arm: str, client_id: int, token: int) -> Path:
    """Return the safetensors file of one version of a client's state."""
    return folder / f"{arm}-{client_id}-{token:x}.safetensors"


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
        if not 8 < begin <= len(content):
            raise ValueError(f"the state of client {client_id} has no header")
        for name, entry in json.loads(content[8:begin]).items():
            first, last = entry["data_offsets"]
            header[f"{client_id}/{name}"] = {**entry, "data_offsets": [end + first, end + last]}
        bodies.append(memoryview(content)[begin:])
        end += len(content) - begin
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # the format wants what follows aligned
    return b"".join([len(head).to_bytes(8, "little"), head, *bodies])
