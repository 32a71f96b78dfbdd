"""K2: what adverse clients do to the others, and how much the others listen to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.claims.shared import Row, federation, gain, read
from experiments.results import TESTS, comparisons


def adverse(*folders: Path) -> Iterator[Row]:
    """Yield the benign clients' gain over local training, and the weight they give adversaries."""
    yield (
        *("federation", "method", "adversaries, each seed"),
        *(f"{title}: local, gain [95%], +/−" for title in TESTS.values()),
        *("weight on adversaries", "equal share"),
    )
    for run_group in read(*folders):
        compared = {test: comparisons(run_group, test) for test in TESTS}
        for name, runs in run_group.methods.items():
            told = [run.summary.get("attack") or {} for run in runs]
            given = [one["weight"] for one in told if one.get("weight") is not None]
            counts = [len(run.adversaries) for run in runs]
            share = np.mean(counts) / int(runs[0].summary["num_clients"])
            yield (
                *(federation(run_group), name, "/".join(map(str, sorted({*counts})))),
                *(gain(compared[test].get(name)) for test in TESTS),
                *(f"{np.mean(given):.2f}" if given else "-", f"{share:.2f}"),
            )
