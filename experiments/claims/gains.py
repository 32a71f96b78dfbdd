"""K1, K4, K9, K10, K12: who gains over local training, and over which other method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from experiments.claims.shared import (
    SHORT,
    Row,
    against,
    difference,
    federation,
    gain,
    last_fusion,
    read,
    spread,
)
from experiments.results import TESTS, comparisons


def gains(folder: Path, references: tuple[str, ...] = ("mean",)) -> Iterator[Row]:
    """Yield each method's gain over local training, and over the references that are there."""
    found = read(folder)
    there = [name for name in references if any(name in run_group.methods for run_group in found)]
    yield (
        *("federation", "method"),
        *(f"{title}: local, gain [95%], +/−" for title in TESTS.values()),
        *(f"{title}: over {name}" for name in there for title in TESTS.values()),
        "self-weight",
    )
    for run_group in found:
        compared = {test: comparisons(run_group, test) for test in TESTS}
        for name in compared["accuracy_own"]:
            runs = run_group.methods[name]
            alone = last_fusion(runs, "self_weight")
            yield (
                *(federation(run_group), name),
                *(gain(compared[test].get(name)) for test in TESTS),
                *(
                    difference(against(runs, run_group.methods.get(other, ()), test))
                    if name != other
                    else "-"
                    for other in there
                    for test in TESTS
                ),
                "-" if alone is None else f"{alone:.2f}",
            )


def changes(folder: Path) -> Iterator[Row]:
    """Yield what the mean hides: flips, and the change of the calibration error."""
    yield (
        *("federation", "method", "test set", "newly right, %", "newly wrong, %"),
        *("calibration error of local, %", "its change, points [95%]"),
    )
    for run_group in read(folder):
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
                    ),
                    *(f"{100 * error.baseline_mean:.1f}", spread(error.mean, error.interval)),
                )
