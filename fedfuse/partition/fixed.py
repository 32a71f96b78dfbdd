"""A partition that the user brings in a file, by rows of the training file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fedfuse.errors import DataError, PartitionError, require
from fedfuse.files.archive import read_npz
from fedfuse.files.limits import MOST_RATIO, MOST_UNPACKED, unpacked
from fedfuse.files.paths import expand
from fedfuse.partition.check import validate_partition
from fedfuse.types import IntArray

_ROW = 8
"""Bytes of a number in a table."""
_FORMS = "a list with one list of indices per client, or an object from client id to such a list"


@dataclass(frozen=True, slots=True)
class Fixed:
    """Read who owns which row of the training file; no chance is involved.

    Rows count from 0 in the order of the training file (several files: one after the other;
    images: as their paths sort), whatever of it becomes test or public samples. Rows that the run
    uses as such are left out with a warning; rows that the partition does not name belong to
    nobody.

    Args:
        path: ``.json``: a list with one list of rows per client, or an object with the client ids
            ("0" to "K-1") as keys. ``.npz``: one array per client, its name ending in the client
            id, as ``numpy.savez(path, *parts)`` writes them. ``.parquet``: columns ``client_id``
            and ``index``, as in the ``partition.parquet`` of a run, whose training and validation
            rows are read (``split``); which of them validate is drawn again.
    """

    path: str | Path

    deals_rows: ClassVar[bool] = True
    """It returns rows of the training file, not positions in what test and public leave."""

    def __post_init__(self) -> None:
        kinds = {".json", ".npz", ".parquet"}
        ok = isinstance(self.path, (str, Path)) and Path(self.path).suffix in kinds
        require(ok, "fixed", "path", self.path, "the path of a .json, .npz or .parquet file")

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
    path = expand(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise PartitionError(
                f"The partition file {path} cannot be read", got="no ordinary file"
            )
        if path.suffix == ".npz":
            return _by_client(read_npz(path, most=MOST_UNPACKED), path)
        if path.suffix == ".parquet":
            return _by_client(_columns(path), path)
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return _by_client(content, path)
    except DataError as error:
        step = "Write it with numpy.savez(path, *parts), one array of integers per client."
        got = f"{error.what} ({error.got})" if error.got else error.what
        raise PartitionError(
            f"The partition file {path} is malformed", got=got, next_step=step
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise PartitionError(f"The partition file {path} cannot be read", got=reason) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise PartitionError(f"The partition file {path} is malformed", got=str(error)) from None
    if isinstance(content, list):
        return content
    kind = type(content).__name__
    raise PartitionError(f"The partition file {path} is malformed", got=kind, allowed=_FORMS)


def _columns(path: Path) -> dict[str, object]:
    """Return the training and validation rows of each client in a table, by its id."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path.stat()  # says what is wrong with it in the system's words
    try:
        with pq.ParquetFile(path) as file:
            size = 3 * _ROW * file.metadata.num_rows
            if size > (limit := max(MOST_UNPACKED, MOST_RATIO * path.stat().st_size)):
                raise unpacked(path, size, limit)
            known = set(file.schema_arrow.names)
            table = file.read([name for name in ("client_id", "index", "split") if name in known])
        if "split" in table.column_names:
            table = table.filter(pc.is_in(table["split"], pa.array(["train", "val"])))
        owner, rows = (np.asarray(table[name]) for name in ("client_id", "index"))
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    return {str(client): rows[owner == client] for client in np.unique(owner)}


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
