"""What a mean gain hides: answers that flip both ways, and how sure the models are of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from experiments.report.axes import points
from experiments.report.table import Cell, Column, Table
from experiments.report.verdicts import (
    WHICH,
    interval_of,
    numbers_of,
    percent,
    select,
    which,
)
from experiments.results import Compared, against

_COLUMNS = (
    *WHICH,
    Column("newly right", about="Tests that fail with local training and pass with the method, %"),
    Column("newly wrong", about="Tests that pass with local training and fail with the method, %"),
    Column(
        "FUAR",
        about="Forgotten / (updated + acquired), arXiv 2110.03215: answers lost for each one won, "
        "in the mean over clients that won any; 1 is as much lost as won",
    ),
    Column("error, local", about="Expected calibration error of local training, %"),
    Column("error, fusion", about="Expected calibration error of the method, %"),
    Column("change", about="The second minus the first, points; below zero is better calibrated"),
    Column("interval", about="95% confidence interval of the change over the seeds, points"),
)
_NAMES = (
    "federation method test newly_right newly_wrong fuar local_ece method_ece ece_change "
    "ece_low ece_high level"
)


def changes_table(done: Sequence[Compared]) -> Table | None:
    """Return flips and calibration as a table; None where no run has them on record."""
    told = [item for item in done if item.found.flips or item.found.calibration]
    if not told:
        return None
    shown, columns = select(_COLUMNS, done)
    return Table(
        "changes",
        "What the mean hides",
        "At the last round. Newly right and newly wrong are the shares of a client's test samples "
        f"whose answer flips between {against(done)} and the method, in the mean; their difference "
        "is the gain. The calibration error is how far the models' confidence and accuracy are "
        "apart (15 bins); where it grows, answers are surer or less sure than they are right.",
        columns,
        tuple(tuple(_row(item)[i] for i in shown) for item in told),
        numbers_of(told, _NAMES.split(), _numbers),
    )


def _row(item: Compared) -> tuple[Cell, ...]:
    flips, error = item.found.flips, item.found.calibration
    none = Cell("–")
    cells = list(which(item))
    cells += [percent(flips.newly_right), percent(flips.newly_wrong)] if flips else [none, none]
    fuar = _fuar(item)
    cells.append(none if fuar is None else Cell(f"{fuar:.2f}", fuar))
    if error is None:
        return (*cells, none, none, none, none)
    # Growing is bad here.
    tone = ("loss" if error.mean > 0 else "gain") if error.significant else ""
    return (
        *cells,
        percent(error.baseline_mean),
        percent(error.method_mean),
        Cell(points(error.mean), error.mean, tone),
        interval_of(item.found, error.interval),
    )


def _fuar(item: Compared) -> float | None:
    """Return what was lost for what was won; None where nothing was, or nothing is on record."""
    flips = item.found.flips
    return flips.fuar if flips and math.isfinite(flips.fuar) else None


def _numbers(item: Compared) -> tuple[Any, ...]:
    flips, error = item.found.flips, item.found.calibration
    interval = error.interval if error else None
    return (
        item.federation,
        item.method,
        item.test,
        flips.newly_right if flips else None,
        flips.newly_wrong if flips else None,
        _fuar(item),
        error.baseline_mean if error else None,
        error.method_mean if error else None,
        error.mean if error else None,
        interval.low if interval else None,
        interval.high if interval else None,
        interval.level if interval else None,
    )
