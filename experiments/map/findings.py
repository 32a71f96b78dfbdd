"""What a map found: each cell of the picture, and one table of every client."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.map.grid import Cell
from experiments.results import TESTS, Moment, Run, RunGroup, comparisons, controls
from fedfuse.compare import CONTROLS, LOCAL, Comparison
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
        methods: What is compared with local training: methods, and other ways of training alone.
        gains: Per control and test protocol, and then per place, the comparison with that control;
            a place without a finished seed is missing.
    """

    samples: tuple[int, ...]
    alpha: tuple[float, ...]
    methods: tuple[str, ...]
    gains: Mapping[tuple[str, str], Mapping[Place, Comparison]]


def find(runs: Mapping[Cell, Run], moment: Moment = Moment.LAST) -> Findings:
    """Compare every method with training alone, place by place, over the seeds that are there."""
    places: dict[tuple[int, float], dict[str, list[Run]]] = {}
    for cell, run in runs.items():
        own = places.setdefault((cell.samples, cell.alpha), {})
        own.setdefault(cell.method, []).append(run)
    gains: dict[tuple[str, str], dict[Place, Comparison]] = {}
    for place, methods in places.items():
        run_group = RunGroup("", {name: _by_seed(own) for name, own in methods.items()})
        for over, test in itertools.product(controls(run_group), TESTS):
            found = comparisons(run_group, test, moment, over)
            gains.setdefault((over, test), {}).update(
                {(*place, method): one for method, one in found.items()}
            )
    alone = [method for found in gains.values() for _, _, method in found]
    return Findings(
        samples=tuple(sorted({cell.samples for cell in runs})),
        alpha=tuple(sorted({cell.alpha for cell in runs})),
        methods=tuple(dict.fromkeys([*(c.method for c in runs if c.method != LOCAL), *alone])),
        gains=gains,
    )


def _by_seed(runs: list[Run]) -> tuple[Run, ...]:
    return tuple(sorted(runs, key=lambda run: run.seed))


def write_table(runs: Mapping[Cell, Run], folder: Path) -> Path:
    """Write one row per cell, client, test protocol and moment; return the file.

    Columns: samples, alpha, method, seed, client_id, test, moment, round, accuracy, baseline and
    gain (both null for local training itself), test_samples (null where unknown). Where runs have
    the control ``local_adjusted``: its accuracy under that name and ``over_local_adjusted``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for cell, run in runs.items():
        for test in TESTS:
            for moment in Moment:
                rows += _rows(cell, run, test, moment)
    further = [name for name in list(CONTROLS)[1:] if any(name in row for row in rows)]
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
            *((f"{over}{name}", pa.float64()) for name in further for over in ("", "over_")),
        ]
    )
    with confined.replacing(folder / TABLE) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, compression="zstd")
    return folder / TABLE


def _rows(cell: Cell, run: Run, test: str, moment: Moment) -> list[dict[str, Any]]:
    round_ = moment.of(run.arm, test)
    values = run.arm.values(test, round_)
    alone = {
        name: found
        for name, arm in run.controls.items()
        if (found := arm.values(test, moment.of(arm, test))) is not None
    }
    before = alone.pop(LOCAL, None)
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
            **{name: float(found[client]) for name, found in alone.items()},
            **{f"over_{name}": float(value - found[client]) for name, found in alone.items()},
        }
        for client, value in enumerate([] if values is None else values)
    ]
