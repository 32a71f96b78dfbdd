"""K2: what adverse clients do to the others, and how much the others listen to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.claims.shared import Array, Row, both, federation, gain, read
from experiments.results import TESTS, Run
from fedfuse.compare import compare


def adverse(*folders: Path) -> Iterator[Row]:
    """Yield the benign clients' gain over local training, and the weight they give adversaries."""
    yield (
        *("federation", "method", "adversaries, each seed"),
        *(f"{title}: local, gain [95%], +/−" for title in TESTS.values()),
        *("weight on adversaries", "equal share"),
    )
    for run_group in read(*folders):
        for name, runs in run_group.methods.items():
            cells = []
            for test in TESTS:
                found = both(runs, test)
                if found is None:
                    cells.append("-")
                    continue
                ours, theirs, sizes, seeds = found
                honest = benign(runs, ours)
                cells.append(gain(compare(honest, theirs, seeds=seeds, test_sizes=sizes)))
            told = [run.summary.get("attack") or {} for run in runs]
            given = [one["weight"] for one in told if one.get("weight") is not None]
            counts = {len(one.get("adversaries", ())) for one in told}
            share = np.mean([len(one.get("adversaries", ())) for one in told])
            share /= int(runs[0].summary["num_clients"])
            yield (
                *(federation(run_group), name, "/".join(map(str, sorted(counts)))),
                *cells,
                *(f"{np.mean(given):.2f}" if given else "-", f"{share:.2f}"),
            )


def benign(runs: Sequence[Run], values: Array) -> Array:
    """Return [S, K] with NaN for the clients that attack."""
    kept = values.copy()
    for row, run in zip(kept, runs, strict=True):
        row[list((run.summary.get("attack") or {}).get("adversaries", ()))] = np.nan
    return kept
