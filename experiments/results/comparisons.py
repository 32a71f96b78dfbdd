"""Compare each method of a federation with local training, paired by seed and client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from experiments.results.arms import Arm, Array
from experiments.results.run_group import RunGroup
from experiments.results.runs import Run
from fedfuse.compare import ENOUGH, Change, Comparison, Flips, change, compare, flips

LOCAL = "local"
Mask = npt.NDArray[np.bool_]


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
    run_group: RunGroup, test: str, moment: Moment = Moment.LAST, draws: int = 4000
) -> dict[str, Comparison]:
    """Return each method's comparison with local training on one test protocol.

    A method's baseline is the one that its own run trained; a run without one is compared with
    the lineup's ``local`` run of the same seed, if it has one, and else left out.

    Args:
        run_group: The methods on one federation.
        test: ``accuracy_own`` or ``accuracy_global``.
        moment: Which round counts.
        draws: Bootstrap draws.
    """
    alone = {run.seed: run for run in run_group.methods.get(LOCAL, ())}
    found = {}
    for name, runs in run_group.methods.items():
        if name == LOCAL:
            continue
        if moment is Moment.BEST_VALIDATION:
            runs = tuple(run for run in runs if _can_choose(run))
        pairs = [
            pair
            for run in runs
            if (pair := _Pair.of(run, alone.get(run.seed), moment, test)) is not None
            and pair.both(test) is not None
        ]
        if pairs:
            ours, theirs = _table(pairs, test)
            compared = compare(
                ours,
                theirs,
                seeds=tuple(pair.run.seed for pair in pairs),
                test_sizes=_sizes([pair.run for pair in pairs], test),
                draws=draws,
            )
            there = np.isfinite(compared.gains)
            calibration = _calibration(pairs, test, there, draws)
            if calibration is not None and not compared.speaks:
                calibration = replace(calibration, interval=None)
            found[name] = replace(
                compared,
                flips=_flips(pairs, test, there) if moment is Moment.LAST else None,
                calibration=calibration,
            )
    return found


def _can_choose(run: Run) -> bool:
    """Tell whether a run has validation samples enough to choose a round by."""
    held_back = run.validation_samples
    return not held_back or held_back >= ENOUGH  # 0: written by a server that did not see them


def share_undone(runs: Sequence[Run]) -> float | None:
    """Return the mean share of distillations that a guard undid; None without a guard."""
    shares = [run.undone for run in runs if run.undone is not None]
    return float(np.mean(shares)) if shares else None


@dataclass(frozen=True, slots=True)
class _Pair:
    """A method's run and the arm it is compared with, each read at its own round.

    Args:
        run: The method's run.
        beside: The run that holds the baseline: its own, or one of local training.
        arms: The method's arm and the baseline's.
        rounds: The round of each.
    """

    run: Run
    beside: Run
    arms: tuple[Arm, Arm]
    rounds: tuple[int | None, int | None]

    @classmethod
    def of(cls, run: Run, alone: Run | None, moment: Moment, test: str) -> _Pair | None:
        """Return the pair; None for a run that there is nothing to compare with."""
        if run.baseline is not None:
            beside, baseline = run, run.baseline
        elif alone is not None:
            beside, baseline = alone, alone.arm
        else:
            return None
        rounds = moment.of(run.arm, test), moment.of(baseline, test)
        return cls(run, beside, (run.arm, baseline), rounds)

    def both(self, metric: str) -> tuple[Array, Array] | None:
        """Return a metric's values [K] in both arms; None where either lacks it."""
        ours, theirs = (
            arm.values(metric, at) for arm, at in zip(self.arms, self.rounds, strict=True)
        )
        return None if ours is None or theirs is None else (ours, theirs)

    def flips(self, test: str) -> tuple[Array, Array] | None:
        """Return each client's flip rates [K]; None where its answers are not on record."""
        theirs = self.beside.answers["baseline" if self.beside is self.run else "method"]
        sizes = self.run.test_sizes(test)
        if test not in self.run.answers["method"] or test not in theirs or sizes is None:
            return None
        return flips(self.run.answers["method"][test], theirs[test], sizes)


def _table(pairs: Sequence[_Pair], metric: str) -> tuple[Array, Array]:
    """Return a metric in both arms, [S, K] each; NaN for what is not there."""
    found = [pair.both(metric) for pair in pairs]
    empty = np.full(1, np.nan)
    return (
        _stack([empty if both is None else both[0] for both in found]),
        _stack([empty if both is None else both[1] for both in found]),
    )


def _calibration(pairs: Sequence[_Pair], test: str, there: Mask, draws: int) -> Change | None:
    """Return how the calibration error of the clients that were compared changes."""
    name = test.replace("accuracy", "ece")
    if any(pair.both(name) is None for pair in pairs):  # written before it was measured
        return None
    ours, theirs = _table(pairs, name)
    return change(np.where(there, ours, np.nan), theirs, draws=draws)


def _flips(pairs: Sequence[_Pair], test: str, there: Mask) -> Flips | None:
    """Return the flips of the clients that were compared; None unless every seed has them."""
    rates = [found for pair in pairs if (found := pair.flips(test)) is not None]
    if len(rates) < len(pairs):
        return None
    positive, negative = (_stack([found[side] for found in rates]) for side in (0, 1))
    return Flips(np.where(there, positive, np.nan), np.where(there, negative, np.nan))


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
