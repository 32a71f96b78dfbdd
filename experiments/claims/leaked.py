"""K7, as far as it is built: membership inference on what clients share, and its price."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.claims.shared import Row, difference, federation, read
from experiments.results import TESTS, comparisons


def leaked(*folders: Path) -> Iterator[Row]:
    """Yield how well the attack by loss does, and what the mechanism leaves of the gain."""
    yield (
        *("federation", "method", "AUC, mean of clients", "worst client, mean of seeds"),
        "hits at 1% false alarms, %",
        *(f"{title}: gain [95%]" for title in TESTS.values()),
    )
    for run_group in read(*folders):
        gained = {test: comparisons(run_group, test) for test in TESTS}
        for name, runs in run_group.methods.items():
            told = [run.summary.get("membership") for run in runs]
            found = [one for one in told if one and "loss" in one["auc"]]
            if not found:
                continue
            auc, worst = (np.mean([one[k]["loss"] for one in found]) for k in ("auc", "auc_worst"))
            hits = np.mean([one["tpr"]["loss"] for one in found])
            yield (
                *(federation(run_group), name, f"{auc:.3f}", f"{worst:.3f}", f"{100 * hits:.1f}"),
                *(difference(gained[test].get(name)) for test in TESTS),
            )
