"""Compare each method of a federation with local training, paired by seed and client."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from experiments.results.arms import Arm
from experiments.results.lineup import Lineup
from experiments.results.runs import Run
from fedfuse.compare import Comparison, compare

LOCAL = "local"


class Moment(StrEnum):
    """At which round both arms are read."""

    LAST = "last"
    """The last tested round: the result."""
    BEST_VALIDATION = "best validation"
    """For each arm its round of the highest mean validation accuracy; never the best on test."""

    def of(self, arm: Arm, test: str) -> int | None:
        """Return the moment's round in an arm."""
        if self is Moment.LAST:
            return arm.last_round(test)
        return arm.best_validation_round()


def comparisons(
    lineup: Lineup, test: str, moment: Moment = Moment.LAST, draws: int = 4000
) -> dict[str, Comparison]:
    """Return each method's comparison with local training on one test protocol.

    A method's baseline is the one that its own run trained; a run without one is compared with
    the lineup's ``local`` run of the same seed, if it has one, and else left out.

    Args:
        lineup: The methods on one federation.
        test: ``accuracy_own`` or ``accuracy_global``.
        moment: Which round counts.
        draws: Bootstrap draws.
    """
    alone = {run.seed: run.arm for run in lineup.methods.get(LOCAL, ())}
    found = {}
    for name, runs in lineup.methods.items():
        if name == LOCAL:
            continue
        pairs = []
        for run in runs:
            baseline = run.baseline or alone.get(run.seed)
            if baseline is None:
                continue
            ours = run.arm.values(test, moment.of(run.arm, test))
            theirs = baseline.values(test, moment.of(baseline, test))
            if ours is not None and theirs is not None:
                pairs.append((run, ours, theirs))
        if pairs:
            kept = [run for run, _, _ in pairs]
            found[name] = compare(
                _stack([ours for _, ours, _ in pairs]),
                _stack([theirs for _, _, theirs in pairs]),
                seeds=tuple(run.seed for run in kept),
                test_sizes=_sizes(kept, test),
                draws=draws,
            )
    return found


def _stack(rows: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.floating]:
    """Return rows of clients as [S, K]; a client that a seed does not have is NaN."""
    width = max(len(row) for row in rows)
    table = np.full((len(rows), width), np.nan)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def _sizes(runs: Sequence[Run], test: str) -> npt.NDArray[np.floating] | None:
    sizes = [run.test_sizes(test) for run in runs]
    known = [size.astype(float) for size in sizes if size is not None]
    return _stack(known) if len(known) == len(runs) else None
