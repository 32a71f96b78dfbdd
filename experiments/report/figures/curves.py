"""Lines over rounds, with a band over the seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.report.axes import Frame, Scale, padded, plain, ticks, whole_ticks
from experiments.report.drawing import Area, Dot, Drawing, Line, Mark, heading
from experiments.report.figure import Key
from experiments.report.layout import PANEL

LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 56.0, 46.0


@dataclass(frozen=True, slots=True)
class Series:
    """One line.

    Args:
        label: Its name in the legend.
        colour: Its role in the theme.
        dash: Its stroke.
        x: [R], where each point lies: rounds, or bytes.
        values: [S, R], a row per seed; the line is their mean, the band spans them. NaN where a
            seed has no value.
    """

    label: str
    colour: str
    dash: str
    x: npt.NDArray[np.floating]
    values: npt.NDArray[np.floating]

    @property
    def key(self) -> Key:
        """Return the legend's entry."""
        return Key(self.label, self.colour, self.dash)


def curves(
    series: Sequence[Series],
    *,
    title: str,
    y_label: str,
    x_label: str = "round",
    y_text: Callable[[float], str] = plain,
    x_text: Callable[[float], str] = plain,
    whole: bool = True,
    least: float = 1.0,
    floor: float | None = None,
    width: float = PANEL,
) -> Drawing:
    """Return one panel of lines.

    Args:
        series: At least one line.
        title: The panel's name.
        y_label: What is measured, with its unit.
        x_label: What runs to the right.
        y_text: How a tick is written.
        x_text: The same to the right.
        whole: Whether x comes in whole numbers.
        least: The least range of y, so that noise is not blown up to the panel's height.
        floor: The lowest y there is, which no padding goes below.
        width: In pixels; the height follows.
    """
    height = 60 + width / 2
    xs = np.concatenate([line.x for line in series])
    ys = np.concatenate([line.values.ravel() for line in series])
    low, high = padded(ys.tolist(), least=least)
    low = low if floor is None or high <= floor else max(low, floor)
    first, last = float(xs.min()), float(xs.max())
    if last == first:
        first, last = (first - 0.5, last + 0.5) if whole else (0.0, last or 1.0)
    x = Scale(first, last, LEFT, width - RIGHT)
    y = Scale(low, high, height - BOTTOM, TOP)
    marks = Frame(
        x,
        y,
        (whole_ticks if whole else ticks)(first, last, int(width / (80 if whole else 120))),
        ticks(low, high),
        x_label,
        y_label,
        x_text,
        y_text,
    ).marks()
    marks.append(heading(title, width))
    for line in series:
        marks += _band(line, x, y)
    for line in series:
        marks += _stroke(line, x, y)
    ends = ", ".join(
        f"{line.label} {y_text(round(float(mean[-1]), 3))}"
        for line in series
        if len(mean := _mean(line)[1])
    )
    return Drawing(
        width, height, tuple(marks), title, f"{y_label} by {x_label}; at the end: {ends}."
    )


def _mean(line: Series) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Return the mean over the seeds where any seed has a value: x and y."""
    there = np.isfinite(line.values).any(axis=0)
    return line.x[there], np.nanmean(line.values[:, there], axis=0)


def _band(line: Series, x: Scale, y: Scale) -> list[Mark]:
    there = np.isfinite(line.values).any(axis=0)
    if len(line.values) < 2 or there.sum() < 2:
        return []
    values, xs = line.values[:, there], line.x[there]
    upper = [(x(px), y(v)) for px, v in zip(xs, np.nanmax(values, axis=0), strict=True)]
    lower = [(x(px), y(v)) for px, v in zip(xs, np.nanmin(values, axis=0), strict=True)]
    return [Area((*upper, *reversed(lower)), line.colour)]


def _stroke(line: Series, x: Scale, y: Scale) -> list[Mark]:
    xs, mean = _mean(line)
    if not len(xs):
        return []
    points = tuple((x(px), y(v)) for px, v in zip(xs, mean, strict=True))
    marks: list[Mark] = [Dot(*points[-1], 3.2, line.colour, label=line.label)]
    if len(points) > 1:
        marks.insert(0, Line(points, line.colour, 2.2, line.dash, label=line.label))
    return marks
