"""What a map found: each cell of the picture, and one table of every client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.map.grid import LOCAL, Cell
from experiments.results import TESTS, Moment, Run, RunGroup, comparisons
from fedfuse.compare import Comparison
from fedfuse.files import confined

TABLE = "map.parquet"

Place = tuple[int, float, str]
"""Samples per client, alpha and method: what the seeds of a cell of the picture have in common."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The gains of a map.

    Args:
        samples: Samples per client, ascending.
        alpha: Alphas, ascending.
        methods: Methods other than local training.
        gains: Per test protocol and place the comparison with local training; a place without a
            finished seed is missing.
    """

    samples: tuple[int, ...]
    alpha: tuple[float, ...]
    methods: tuple[str, ...]
    gains: Mapping[str, Mapping[Place, Comparison]]


def find(runs: Mapping[Cell, Run], moment: Moment = Moment.LAST) -> Findings:
    """Compare every method with local training, place by place, over the seeds that are there."""
    places: dict[Place, list[Run]] = {}
    for cell, run in runs.items():
        places.setdefault((cell.samples, cell.alpha, cell.method), []).append(run)
    gains: dict[str, dict[Place, Comparison]] = {test: {} for test in TESTS}
    for (samples, alpha, method), own in places.items():
        if method == LOCAL:
            continue
        alone = places.get((samples, alpha, LOCAL), [])
        run_group = RunGroup("", {LOCAL: _by_seed(alone), method: _by_seed(own)})
        for test, found in gains.items():
            compared = comparisons(run_group, test, moment)
            if method in compared:
                found[samples, alpha, method] = compared[method]
    return Findings(
        samples=tuple(sorted({cell.samples for cell in runs})),
        alpha=tuple(sorted({cell.alpha for cell in runs})),
        methods=tuple(dict.fromkeys(c.method for c in runs if c.method != LOCAL)),
        gains=gains,
    )


def _by_seed(runs: list[Run]) -> tuple[Run, ...]:
    return tuple(sorted(runs, key=lambda run: run.seed))


def write_table(runs: Mapping[Cell, Run], folder: Path) -> Path:
    """Write one row per cell, client, test protocol and moment; return the file.

    Columns: samples, alpha, method, seed, client_id, test, moment, round, accuracy, baseline and
    gain (both null for local training itself), test_samples (null where unknown).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for cell, run in runs.items():
        for test in TESTS:
            for moment in Moment:
                rows += _rows(cell, run, test, moment)
    schema = pa.schema(
        [
            ("samples", pa.int64()),
            ("alpha", pa.float64()),
            ("method", pa.string()),
            ("seed", pa.int64()),
            ("client_id", pa.int32()),
            ("test", pa.string()),
            ("moment", pa.string()),
            ("round", pa.int32()),
            ("accuracy", pa.float64()),
            ("baseline", pa.float64()),
            ("gain", pa.float64()),
            ("test_samples", pa.int64()),
        ]
    )
    with confined.replacing(folder / TABLE) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, compression="zstd")
    return folder / TABLE


def _rows(cell: Cell, run: Run, test: str, moment: Moment) -> list[dict[str, Any]]:
    round_ = moment.of(run.arm, test)
    values = run.arm.values(test, round_)
    before = None
    if run.baseline is not None:
        before = run.baseline.values(test, moment.of(run.baseline, test))
    sizes = run.test_sizes(test)
    return [
        {
            "samples": cell.samples,
            "alpha": cell.alpha,
            "method": cell.method,
            "seed": cell.seed,
            "client_id": client,
            "test": test,
            "moment": str(moment),
            "round": round_,
            "accuracy": float(value),
            "baseline": None if before is None else float(before[client]),
            "gain": None if before is None else float(value - before[client]),
            "test_samples": None if sizes is None else int(sizes[client]),
        }
        for client, value in enumerate([] if values is None else values)
    ]
