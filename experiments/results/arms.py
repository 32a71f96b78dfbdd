"""The metrics of one arm of a run, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.files import confined

Array = npt.NDArray[np.floating]

TESTS = {"accuracy_own": "own distribution", "accuracy_global": "balanced test set"}
"""The two test protocols, and their names for a reader."""

SHORT = {"accuracy_own": "own", "accuracy_global": "balanced"}
"""The same in a narrow column."""

FEDERATION = -1
"""The ``client_id`` of a metric of the whole federation."""


@dataclass(frozen=True)
class Arm:
    """The metrics of one arm.

    Args:
        rounds: int [R], ascending.
        clients: Per ``metric@phase`` the clients' values [R, K], NaN where there is none.
        federation: Per ``metric@phase`` the federation's values [R], NaN where there is none.
    """

    rounds: npt.NDArray[np.integer]
    clients: Mapping[str, Array]
    federation: Mapping[str, Array]

    def at(self, metric: str, phase: str = "fused") -> Array | None:
        """Return a metric's values [R, K]; None if it was never measured."""
        return self.clients.get(f"{metric}@{phase}")

    def last_round(self, metric: str = "accuracy_own", phase: str = "fused") -> int | None:
        """Return the last round in which a client has the metric."""
        values = self.at(metric, phase)
        there = np.zeros(0) if values is None else np.flatnonzero(np.isfinite(values).any(axis=1))
        return int(self.rounds[there[-1]]) if len(there) else None

    def best_validation_round(self) -> int | None:
        """Return the round of the highest mean validation accuracy, the earliest of equals.

        Only rounds whose models were tested count; test data choose nothing.
        """
        validation = self.at("accuracy_val")
        if validation is None:
            return None
        there = np.isfinite(validation).any(axis=1)
        tested = [self.at(name) for name in TESTS]
        if not any(values is not None for values in tested):
            return None
        there &= np.any(
            [np.isfinite(values).any(axis=1) for values in tested if values is not None], axis=0
        )
        if not there.any():
            return None
        means = np.where(there, np.nanmean(np.where(there[:, None], validation, 0), axis=1), -1)
        return int(self.rounds[int(np.argmax(means))])

    def values(self, metric: str, round_: int | None, phase: str = "fused") -> Array | None:
        """Return a metric's values [K] at a round; None if it was not measured then."""
        values = self.at(metric, phase)
        if values is None or round_ is None or round_ not in self.rounds:
            return None
        return np.asarray(values[int(np.searchsorted(self.rounds, round_))])

    def last(self, metric: str, phase: str = "fused") -> Array | None:
        """Return the values [K] of the last round that has any."""
        return self.values(metric, self.last_round(metric, phase), phase)

    @property
    def traffic(self) -> Array:
        """Return the bytes up and down in each round, [R]."""
        total = np.zeros(len(self.rounds))
        for name in ("bytes_up@fuse", "bytes_down@fuse"):
            if name in self.federation:
                total += np.nan_to_num(self.federation[name])
        return total


LARGEST = 2**27
"""Rows of a table, and numbers of an arm, that are believed."""

FEW, ROWS_PER_BYTE = 10_000, 100
"""Rows that any table may have, and more per byte: a table of nothing but ones has some 10."""


def read_table(file: Path, columns: Sequence[str] | None = None) -> Any:
    """Return a parquet file of a run folder, whoever wrote it.

    Raises:
        ValueError: If it has more rows than a run leaves.
        FedfuseError: If a link leads to it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = confined.read(file.parent, file.name)
    table = pq.ParquetFile(pa.BufferReader(content))
    if (rows := table.metadata.num_rows) > min(LARGEST, FEW + ROWS_PER_BYTE * len(content)):
        raise ValueError(f"{file.name} announces {rows} rows in {len(content)} bytes")
    return table.read(None if columns is None else list(columns))


class _Columns(Mapping[str, Array]):
    """The values of many metrics, [R, K] each, made when they are asked for.

    A table has a row per value that was measured; as arrays all of them together would be larger
    by far, where only some clients are tested in a round.

    Args:
        names: The metrics' names.
        kinds: Each row's place among the names.
        rounds: Each row's round, as a row of the arrays.
        owners: Each row's client.
        values: Each row's value.
        shape: R and K.
    """

    def __init__(
        self,
        names: Sequence[str],
        kinds: npt.NDArray[np.integer],
        rounds: npt.NDArray[np.integer],
        owners: npt.NDArray[np.integer],
        values: Array,
        shape: tuple[int, int],
    ) -> None:
        order = np.argsort(kinds, kind="stable")
        self._rows = rounds[order], owners[order], values[order]
        bounds = np.searchsorted(kinds[order], [np.arange(len(names)), np.arange(len(names)) + 1])
        self._spans = {
            name: slice(first, last)
            for name, first, last in zip(names, *bounds.tolist(), strict=True)
            if last > first
        }
        self._shape = shape
        self._made: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._made:
            rounds, owners, values = (column[self._spans[name]] for column in self._rows)
            made = np.full(self._shape, np.nan)
            made[rounds, owners] = values
            self._made[name] = made
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


def read_arm(file: Path, num_clients: int = 0) -> Arm:
    """Read the tidy rows of a parquet file into arrays.

    Args:
        file: The file.
        num_clients: K; a table may not tell, for not every client need have been tested.

    Raises:
        ValueError: If they would not be what a run measures, or more than fits anywhere.
    """
    table = read_table(file)
    client_ids = table["client_id"].to_numpy()
    values = table["value"].to_numpy()
    metrics = table["metric"].dictionary_encode().combine_chunks()
    phases = table["phase"].dictionary_encode().combine_chunks()
    kinds = metrics.indices.to_numpy() * len(phases.dictionary) + phases.indices.to_numpy()
    present, kinds = np.unique(kinds, return_inverse=True)
    names = [
        f"{metrics.dictionary[metric]}@{phases.dictionary[phase]}"
        for metric, phase in (divmod(int(kind), len(phases.dictionary)) for kind in present)
    ]
    rounds, where = np.unique(table["round"].to_numpy(), return_inverse=True)
    num_clients = max(num_clients, int(client_ids.max(initial=-1)) + 1)
    if len(rounds) * max(num_clients, len(names)) > LARGEST:
        raise ValueError(f"{len(rounds)} rounds of {num_clients} clients")
    whole, own = client_ids == FEDERATION, client_ids >= 0
    clients = _Columns(
        names, kinds[own], where[own], client_ids[own], values[own], (len(rounds), num_clients)
    )
    columns = kinds[whole], where[whole], np.zeros(whole.sum(), dtype=np.int64), values[whole]
    everybody = _Columns(names, *columns, (len(rounds), 1))
    return Arm(rounds, clients, {name: made[:, 0] for name, made in everybody.items()})
