"""K1, K4, K9, K10, K12: who gains over local training, and over which other method."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from experiments.claims.shared import (
    Row,
    against,
    difference,
    federation,
    gain,
    last_fusion,
    read,
    spread,
)
from experiments.results import SHORT, TESTS, comparisons, controls
from fedfuse.compare import ADJUSTED, Comparison, corrected


def gains(*folders: Path, references: tuple[str, ...] = ("mean",)) -> Iterator[Row]:
    """Yield each method's gain over local training, and over the references that are there."""
    found = read(*folders)
    there = [name for name in references if any(name in run_group.methods for run_group in found)]
    there += [ADJUSTED] if any(ADJUSTED in controls(run_group) for run_group in found) else []
    yield (
        *("federation", "method"),
        *(f"{title}: local, gain [95%], +/−" for title in TESTS.values()),
        *(f"{title}: over {name}" for name in there for title in TESTS.values()),
        "self-weight",
    )
    page: list[tuple[str, Comparison | None]] = []
    for run_group in found:
        compared = {test: comparisons(run_group, test) for test in TESTS}
        leads = {test: comparisons(run_group, test, over=ADJUSTED) for test in TESTS}
        for name in compared["accuracy_own"]:
            runs = run_group.methods.get(name, ())
            alone = last_fusion(runs, "self_weight")
            over = [
                leads[test].get(name)
                if other == ADJUSTED
                else None
                if name == other
                else against(runs, run_group.methods.get(other, ()), test)
                for other in there
                for test in TESTS
            ]
            yield (
                *(federation(run_group), name),
                *(gain(compared[test].get(name)) for test in TESTS),
                *map(difference, over),
                "-" if alone is None else f"{alone:.2f}",
            )
            where = f"{name} in {run_group.label}" if run_group.label else name
            page += ((f"{where}, {SHORT[test]}", compared[test].get(name)) for test in TESTS)
            kinds = [f"{SHORT[test]} over {other}" for other in there for test in TESTS]
            page += ((f"{where}, {kind}", one) for kind, one in zip(kinds, over, strict=True))
    yield (corrected(page),)


def changes(*folders: Path) -> Iterator[Row]:
    """Yield what the mean hides: flips, and the change of the calibration error."""
    yield (
        *("federation", "method", "test set", "newly right, %", "newly wrong, %", "FUAR"),
        *("calibration error of local, %", "its change, points [95%]"),
    )
    for run_group in read(*folders):
        for test in TESTS:
            for name, found in comparisons(run_group, test).items():
                if found.flips is None or found.calibration is None:
                    continue
                error = found.calibration
                yield (
                    *(federation(run_group), name, SHORT[test]),
                    *(
                        f"{100 * found.flips.newly_right:.1f}",
                        f"{100 * found.flips.newly_wrong:.1f}",
                        f"{found.flips.fuar:.2f}" if math.isfinite(found.flips.fuar) else "-",
                    ),
                    *(f"{100 * error.baseline_mean:.1f}", spread(error.mean, error.interval)),
                )
