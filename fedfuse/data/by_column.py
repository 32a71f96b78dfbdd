"""Natural splits: who a column of the training file says a row is from, as a writer or a site."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fedfuse.data.table_files import find_tables, read_tables
from fedfuse.errors import PartitionError, require
from fedfuse.types import IntArray


@dataclass(frozen=True, slots=True)
class ByColumn:
    """Give each client the rows of one value of a column: a writer, a site, a speaker.

    With as many values as clients each client has one, in the order of the values as text: "10"
    comes before "9". With more, values share a client, never the other way round: one after the
    other, the most frequent first, goes to the client with the fewest rows. No chance is involved.
    Rows that the run uses as test or public samples are left out, with a warning.

    Args:
        column: The column's name.
        path: A CSV or parquet file, or a folder with train.*, whose rows are those of the training
            file in its order; as a rule what the data set itself is read from.
    """

    column: str
    path: str | Path | None = None

    deals_rows: ClassVar[bool] = True
    """It returns rows of the training file, not positions in what test and public leave."""

    def __post_init__(self) -> None:
        named = isinstance(self.column, str) and bool(self.column)
        require(named, "by_column", "column", self.column, "the name of a column")

    def __call__(
        self,
        labels: IntArray,
        num_clients: int,
        rng: np.random.Generator,  # noqa: ARG002 (the column decides)
    ) -> list[IntArray]:
        """Return one array of rows per client.

        Raises:
            PartitionError: If there is no such column, it has empty cells, a single value or fewer
                than clients, or its rows are not those of the data.
            DataError: If the file cannot be read.
        """
        values = self._values()
        if len(values) != len(labels):
            raise PartitionError(
                f"Column '{self.column}' does not belong to the training samples",
                got=f"{len(values)} rows in {self.path} and {len(labels)} training samples",
                next_step="Set partitioner.path to the training file of the data set.",
            )
        names, owner = np.unique(np.array(values), return_inverse=True)
        if len(names) < max(2, num_clients):
            has = "one value" if len(names) == 1 else "fewer values than there are clients"
            raise PartitionError(
                f"Column '{self.column}' of {self.path} has {has}",
                got=f"{', '.join(map(str, names[:5]))}{', ...' if len(names) > 5 else ''}"
                f" for num_clients={num_clients}",
                allowed="at least two values, and one a client",
                next_step="Name another column in partitioner.column."
                if len(names) == 1
                else f"Set num_clients={len(names)} or fewer.",
            )
        return share_values(owner, num_clients)

    def _values(self) -> list[str]:
        if self.path is None:
            raise PartitionError(
                "partitioner=by_column reads a column of a file, and the data set names none",
                allowed="a data set with dataset.path that leads to CSV or parquet files",
                next_step="Set dataset.path, or partitioner.path to a table with one row for each "
                "training sample.",
            )
        found: list[object] = []
        files = find_tables(self.path)["train"]
        for file, table in read_tables(files, len(files)).items():
            if self.column not in table.column_names:
                raise PartitionError(
                    f"No column '{self.column}' in {file}",
                    got=f"columns {', '.join(table.column_names[:10])}",
                    next_step="Name the right one in partitioner.column.",
                )
            found += table.column(self.column).to_pylist()
        empty = sum(value in (None, "") or value != value for value in found)  # not a number
        if empty:
            raise PartitionError(
                f"Column '{self.column}' of {self.path} has empty cells, and their rows no owner",
                got=f"{empty} of {len(found)}",
                next_step="Fill them, or remove the rows.",
            )
        return [str(value) for value in found]


def share_values(owner: IntArray, num_clients: int) -> list[IntArray]:
    """Return each client's rows, ascending: values whole, sizes as near as that allows.

    Args:
        owner: The value of each row, 0 to V-1 [N].
        num_clients: K, at most V.

    >>> [part.tolist() for part in share_values(np.array([2, 0, 1, 0, 0]), 2)]
    [[1, 3, 4], [0, 2]]
    """
    counts = np.bincount(owner)
    client = np.arange(len(counts))
    if len(counts) > num_clients:
        sizes = np.zeros(num_clients, dtype=np.int64)
        for value in np.argsort(-counts, kind="stable"):
            client[value] = sizes.argmin()
            sizes[client[value]] += counts[value]
    return [np.flatnonzero(client[owner] == k) for k in range(num_clients)]
