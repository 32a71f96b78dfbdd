"""A partition that the user brings in a file."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedfuse.errors import PartitionError, require
from fedfuse.partition.check import validate_partition
from fedfuse.types import IntArray

_FORMS = "a list with one list of indices per client, or an object from client id to such a list"


@dataclass(frozen=True, slots=True)
class Fixed:
    """Read who owns which sample from a file; no chance is involved.

    Args:
        path: ``.json``: a list with one list of sample indices per client, or an object with the
            client ids ("0" to "K-1") as keys. ``.npz``: one array per client, its name ending
            in the client id, as ``numpy.savez(path, *parts)`` writes them.
    """

    path: str | Path

    def __post_init__(self) -> None:
        ok = isinstance(self.path, (str, Path)) and Path(self.path).suffix in {".json", ".npz"}
        require(ok, "fixed", "path", self.path, "the path of a .json or .npz file")

    def __call__(
        self,
        labels: IntArray,
        num_clients: int,
        rng: np.random.Generator,  # noqa: ARG002 (the file decides)
    ) -> list[IntArray]:
        """Return one index array per client, as the file says.

        Raises:
            PartitionError: If the file is missing or malformed, or does not fit the data.
        """
        return validate_partition(read_partition(Path(self.path)), len(labels), num_clients)


def read_partition(path: Path) -> list[object]:
    """Return the parts in the file in order of the client id, not yet checked."""
    path = path.expanduser()
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return _by_client({name: archive[name] for name in archive.files}, path)
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise PartitionError(f"The partition file {path} cannot be read", got=reason) from None
    except (ValueError, EOFError, MemoryError, RecursionError, *_ZIP) as error:
        raise PartitionError(f"The partition file {path} is malformed", got=str(error)) from None
    if isinstance(content, list):
        return content
    if isinstance(content, dict):
        return _by_client(content, path)
    kind = type(content).__name__
    raise PartitionError(f"The partition file {path} is malformed", got=kind, allowed=_FORMS)


_ZIP = (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError)


def _by_client(parts: Mapping[str, object], path: Path) -> list[object]:
    """Return the values in order of the number that ends each key: 0, 1, ... K-1."""
    numbered = {int(m[0]): part for key, part in parts.items() if (m := re.search(r"\d+$", key))}
    if sorted(numbered) != list(range(len(parts))):
        raise PartitionError(
            f"The partition file {path} does not name its clients by id",
            got=f"names {', '.join(list(parts)[:5])}",
            allowed=f"names that end in 0 to {len(parts) - 1}, each once",
        )
    return [numbered[client] for client in range(len(parts))]
