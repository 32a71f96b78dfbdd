"""Compare each method of a federation with training alone, paired by seed and client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from experiments.results.arms import Arm, Array
from experiments.results.entrants import Side, entrants
from experiments.results.run_group import RunGroup
from experiments.results.runs import Run
from fedfuse.compare import (
    ADJUSTED,
    ENOUGH,
    LOCAL,
    Change,
    Comparison,
    Decision,
    Flips,
    change,
    compare,
    flips,
)

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
    run_group: RunGroup,
    test: str,
    moment: Moment = Moment.LAST,
    over: str = LOCAL,
) -> dict[str, Comparison]:
    """Return each method's comparison with a control on one test protocol.

    A method's control is the arm of its own run; a run without one is compared with the line-up's
    run of the control with the same seed, if it has one, and else left out. Beside the methods,
    every other way of training alone is compared with plain local training.

    Args:
        run_group: The methods on one federation.
        test: ``accuracy_own`` or ``accuracy_global``.
        moment: Which round counts.
        over: The control, a key of :data:`fedfuse.compare.CONTROLS`.
    """
    everybody = entrants(run_group)
    found = {
        name: _compared([_beside(side, over, everybody) for side in sides.values()], test, moment)
        for name, sides in everybody.items()
        # Ways of training alone are compared with the plain one only.
        if name != over and (over == LOCAL or not any(side.alone for side in sides.values()))
    }
    return {name: one for name, one in found.items() if one is not None}


def decisions(
    run_group: RunGroup,
    test: str,
    found: Mapping[str, Mapping[str, Comparison]],
    moment: Moment = Moment.LAST,
) -> dict[str, Decision]:
    """Return the answer to "fuse or train alone?" of each method that has both controls.

    Args:
        run_group: The methods on one federation.
        test: ``accuracy_own`` or ``accuracy_global``.
        found: Per control what :func:`comparisons` found on this test.
        moment: Which round counts.
    """
    everybody = entrants(run_group)
    told = {}
    for name, lead in found.get(ADJUSTED, {}).items():
        controls = [
            (adjusted, plain)
            for side in everybody[name].values()
            if (adjusted := _beside(side, ADJUSTED, everybody)[1]) is not None
            and (plain := _beside(side, LOCAL, everybody)[1]) is not None
        ]
        prior = _compared(controls, test, moment)
        if name in found.get(LOCAL, {}) and prior is not None:
            told[name] = Decision(name, found[LOCAL][name], lead, prior)
    return told


Entrants = Mapping[str, Mapping[int, Side]]


def _beside(side: Side, over: str, everybody: Entrants) -> tuple[Side, Side | None]:
    """Return a side and the control that it is compared with: of its own run, if that has one."""
    return side, side.control(over) or everybody.get(over, {}).get(side.run.seed)


def _compared(
    sides: Sequence[tuple[Side, Side | None]], test: str, moment: Moment
) -> Comparison | None:
    """Return the comparison of what can be compared; None if nothing can."""
    pairs = [
        pair
        for ours, theirs in sides
        if theirs is not None
        and (moment is not Moment.BEST_VALIDATION or _can_choose(ours.run))
        and (pair := _Pair.of(ours, theirs, moment, test)).both(test) is not None
    ]
    if not pairs:
        return None
    ours, theirs = _table(pairs, test)
    compared = compare(
        ours,
        theirs,
        seeds=tuple(pair.run.seed for pair in pairs),
        test_sizes=_sizes([pair.run for pair in pairs], test),
    )
    there = np.isfinite(compared.gains)
    calibration = _calibration(pairs, test, there)
    if calibration is not None and not compared.speaks:
        calibration = replace(calibration, interval=None)
    return replace(
        compared,
        flips=_flips(pairs, test, there) if moment is Moment.LAST else None,
        calibration=calibration,
    )


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
    """A method's arm and the one it is compared with, each read at its own round.

    Args:
        ours: The method's side.
        theirs: The control's.
        rounds: The round of each.
    """

    ours: Side
    theirs: Side
    rounds: tuple[int | None, int | None]

    @classmethod
    def of(cls, ours: Side, theirs: Side, moment: Moment, test: str) -> _Pair:
        """Return the pair at a moment."""
        return cls(ours, theirs, (moment.of(ours.arm, test), moment.of(theirs.arm, test)))

    @property
    def run(self) -> Run:
        """Return the method's run."""
        return self.ours.run

    def both(self, metric: str) -> tuple[Array, Array] | None:
        """Return a metric's values [K] in both arms; None where either lacks it.

        Clients that attack are NaN: as in a run's own summary, what becomes of them is no result.
        """
        ours, theirs = (
            side.arm.values(metric, at)
            for side, at in zip((self.ours, self.theirs), self.rounds, strict=True)
        )
        if ours is None or theirs is None:
            return None
        attacks = np.isin(np.arange(len(ours)), self.run.adversaries)
        return np.where(attacks, np.nan, ours), theirs

    def flips(self, test: str) -> tuple[Array, Array] | None:
        """Return each client's flip rates [K]; None where its answers are not on record."""
        ours, theirs = self.ours.answers, self.theirs.answers
        sizes = self.run.test_sizes(test)
        if test not in ours or test not in theirs or sizes is None:
            return None
        return flips(ours[test], theirs[test], sizes)


def _table(pairs: Sequence[_Pair], metric: str) -> tuple[Array, Array]:
    """Return a metric in both arms, [S, K] each; NaN for what is not there."""
    found = [pair.both(metric) for pair in pairs]
    empty = np.full(1, np.nan)
    return (
        _stack([empty if both is None else both[0] for both in found]),
        _stack([empty if both is None else both[1] for both in found]),
    )


def _calibration(pairs: Sequence[_Pair], test: str, there: Mask) -> Change | None:
    """Return how the calibration error of the clients that were compared changes."""
    name = test.replace("accuracy", "ece")
    if any(pair.both(name) is None for pair in pairs):  # written before it was measured
        return None
    ours, theirs = _table(pairs, name)
    return change(np.where(there, ours, np.nan), theirs)


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
