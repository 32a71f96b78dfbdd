"""Write what a run measures while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

import numpy as np
from torch import Tensor

from fedfuse.failure import Failure
from fedfuse.types import MetricRow, RoundRecord
from server.reporters.columns import numbers, texts
from server.reporters.figures import mean
from server.reporters.folder import RunFolder
from server.reporters.protocol import RunInfo
from server.reporters.weights_file import WeightsFile

TOLD_ONE_BY_ONE = 100
"""The most clients that fail in a phase of a round and have an event each."""
FLUSH_SHARE = 0.05
"""The largest share of a run's time that writing its metrics may take."""


class Files:
    """A reporter that fills a run folder.

    The last arm of a run is the method under test (``metrics.parquet``, ``weights.safetensors``),
    the first of several its baseline (``baseline.parquet``); another control is called by its own
    name (``local_adjusted.parquet``). Which test samples each client got right in the last round
    is in ``answers.safetensors``, a bit a sample: per arm (``method``, ``baseline``,
    ``local_adjusted``) and test metric uint8 [K, bytes]. Metrics are on disk after every round, so
    a crash leaves what was done; only when rewriting them would take more than a twentieth of
    the run's time do several rounds go together.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._tables: dict[str, _Metrics] = {}
        self._weights: WeightsFile | None = None
        self._num_clients = 0
        self._right: dict[str, Tensor] = {}
        self._method = ""
        self._names: dict[str, str] = {}
        self._told: set[tuple[str, int]] = set()

    def start(self, info: RunInfo) -> None:
        """Write what is known before the first round."""
        self._method, self._num_clients = info.arms[-1], info.num_clients
        self._told = self._folder.rounds_told()
        self._names = {arm: arm for arm in info.arms}
        self._names |= {info.arms[0]: "baseline", self._method: "method"}
        for arm, name in self._names.items():
            file = "metrics" if arm == self._method else name
            self._tables[arm] = _Metrics(self._folder, f"{file}.parquet")
        self._folder.event(
            "start",
            method=info.method,
            arms=info.arms,
            clients=info.num_clients,
            rounds=info.num_rounds,
            dataset=info.dataset,
            partitioner=info.partitioner,
            model=info.model,
        )

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Write that a phase began."""
        self._folder.event("phase", arm=arm, round=round_, phase=phase)

    def client_done(self, client_id: int) -> None:
        """Write nothing: K lines per phase would tell nobody anything."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Write the round's metrics and weights."""
        self._tables[arm].add(record.metrics)
        self._folder.rounds += 1
        if record.weights is not None and arm == self._method:
            if self._weights is None:
                self._weights = WeightsFile(self._folder, self._num_clients)
            self._weights.add(record)
        if record.model is not None and arm == self._method:
            from safetensors.torch import save_file

            with self._folder.replacing("server_model.safetensors") as file:
                save_file(dict(record.model), file)
        if record.right is not None:
            from safetensors.torch import save

            name = self._names[arm]
            self._right |= {f"{name}.{test}": bits for test, bits in record.right.items()}
            with self._folder.replacing("answers.safetensors") as file:
                file.write_bytes(save(self._right))
        for kind, words in absences(record.failures):
            self._folder.event(kind, arm=arm, **words)
        means = {
            f"{name}_mean": value
            for name in ("accuracy_own", "accuracy_global")
            if (value := mean(record, name)) is not None
        }
        if (arm, record.round) not in self._told:
            self._folder.event(
                "round", arm=arm, round=record.round, seconds=record.seconds, **means
            )

    def client_models(self, about: Mapping[str, Any], content: bytes) -> None:
        """Write the models of some clients, each as a file of its own."""
        self._folder.write_models(about, content)

    def close(self) -> None:
        """Write what is still in memory."""
        for table in self._tables.values():
            table.flush()
        if self._weights is not None:
            self._weights.finish()
            self._weights = None


def absences(failures: Sequence[Failure]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events that a round's failures are: one each, or one for many of a phase.

    Of many are told their number, the first ten and the three most frequent reasons: thousands of
    lines would tell nobody anything.
    """
    groups: dict[tuple[bool, int, str], list[Failure]] = {}
    for failure in failures:
        key = failure.quarantined, failure.round, failure.phase
        groups.setdefault(key, []).append(failure)
    for (quarantined, round_, phase), group in groups.items():
        if len(group) <= TOLD_ONE_BY_ONE:
            yield from map(absence, group)
            continue
        reasons = Counter(failure.error for failure in group).most_common(3)
        yield (
            "quarantine" if quarantined else "absent",
            {
                "clients": len(group),
                "first": sorted(failure.client_id for failure in group)[:10],
                "round": round_,
                "phase": phase,
                "reasons": dict(reasons),
            },
        )


def absence(failure: Failure) -> tuple[str, dict[str, Any]]:
    """Return the kind and the fields of the event that a client's failure is."""
    return "quarantine" if failure.quarantined else "absent", {
        "client": failure.client_id,
        "round": failure.round,
        "phase": failure.phase,
        "reason": failure.error,
    }


class _Metrics:
    """A parquet file of tidy metric rows, rewritten whole as it grows."""

    def __init__(self, folder: RunFolder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._batches: list[Any] = []
        self._unwritten = False
        self._cost = 0.0
        self._written_at = monotonic()

    def add(self, rows: Iterable[MetricRow]) -> None:
        import pyarrow as pa

        rows = tuple(rows)
        self._batches.append(
            pa.record_batch(
                [
                    numbers([row.round for row in rows], np.int32),
                    numbers([row.client_id for row in rows], np.int32),
                    texts([row.phase for row in rows]),
                    texts([row.metric for row in rows]),
                    numbers([row.value for row in rows], np.float64),
                ],
                names=["round", "client_id", "phase", "metric", "value"],
            )
        )
        self._unwritten = True
        if self._cost <= FLUSH_SHARE * (monotonic() - self._written_at):
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._unwritten:
            return
        begun = monotonic()
        with self._folder.replacing(self._name) as file:
            # One chunk, so that the bytes do not depend on how often it was flushed.
            table = pa.Table.from_batches(self._batches).combine_chunks()
            pq.write_table(table, file, compression="zstd")
        self._unwritten = False
        self._written_at = monotonic()
        self._cost = self._written_at - begun
