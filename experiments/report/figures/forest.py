"""The main figure: every method's gain and its interval, one below the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.report.axes import Scale, padded, plain, points, ticks
from experiments.report.drawing import (
    Box,
    Dot,
    Drawing,
    Line,
    Mark,
    Text,
    heading,
    shortened,
    text_width,
)
from experiments.report.layout import PANEL

TOP, STEP, TALL, BOTTOM = 34.0, 26.0, 42.0, 44.0
NAMES = 0.32
"""The share of the width that names take at most."""
BOLD = 1.1
"""How much wider bold letters are, about."""


@dataclass(frozen=True, slots=True)
class Row:
    """A gain.

    Args:
        label: Whose it is.
        colour: Its role in the theme.
        dash: Its stroke.
        gain: The mean gain, as a share.
        bounds: The ends of its interval; None with one seed.
        certain: Whether the interval excludes 0.
    """

    label: str
    colour: str
    dash: str
    gain: float
    bounds: tuple[float, float] | None
    certain: bool


def forest(
    rows: Sequence[Row], *, title: str, over: str = "local training", width: float = PANEL
) -> Drawing:
    """Return one panel: the largest gain on top.

    Args:
        rows: At least one gain.
        title: The panel's name.
        over: What the gain is over.
        width: In pixels.
    """
    rows = sorted(rows, key=lambda row: -row.gain)
    written = [_written(row) for row in rows]
    names = 10 + BOLD * max(text_width(row.label) for row in rows)
    # Long names stand above their intervals.
    above = names > NAMES * width
    names, step = (8.0, TALL) if above else (names, STEP)
    right = width - 10 - max(map(text_width, written)) * BOLD
    ends = [100 * end for row in rows for end in (row.gain, *(row.bounds or ()))]
    low, high = padded([0.0, *ends], least=1.0)
    x = Scale(low, high, names, right)
    bottom = TOP + step * len(rows)
    marks: list[Mark] = [heading(title, width)]
    for tick in ticks(low, high, max(3, int((right - names) / 45))):
        marks.append(Line(((x(tick), TOP), (x(tick), bottom)), "grid"))
        text = f"+{plain(tick)}" if tick > 0 else plain(tick)
        marks.append(Text(x(tick), bottom + 16, text, anchor="middle"))
    marks.append(Line(((x(0), TOP - 4), (x(0), bottom)), "ink", 1.2))
    marks.append(Text(width, bottom + 36, f"points of accuracy over {over}", anchor="end"))
    for i, (row, numbers) in enumerate(zip(rows, written, strict=True)):
        y = TOP + step * (i + 1) - STEP / 2
        if above:
            top = y - STEP / 2 - 1
            label = shortened(row.label, width / BOLD)
            marks.append(Box(0, top - 11, text_width(label) * BOLD, 14, "paper"))
            marks.append(Text(0, top, label, "ink", bold=row.certain))
        else:
            marks.append(Text(0, y + 4, row.label, "ink", bold=row.certain))
        marks += _interval(row, x, y)
        marks.append(Text(width, y + 4, numbers, "ink", anchor="end", bold=row.certain))
    told = "; ".join(f"{row.label} {numbers}" for row, numbers in zip(rows, written, strict=True))
    return Drawing(width, bottom + BOTTOM, tuple(marks), title, f"Gains in points: {told}.")


def _interval(row: Row, x: Scale, y: float) -> list[Mark]:
    told = f"{row.label}: {_written(row)}"
    marks: list[Mark] = []
    if row.bounds is not None:
        low, high = (x(100 * end) for end in row.bounds)
        marks.append(Line(((low, y), (high, y)), row.colour, 2.2, row.dash, label=told))
        marks += (Line(((end, y - 5), (end, y + 5)), row.colour, 2.2) for end in (low, high))
    marks.append(Dot(x(100 * row.gain), y, 5.5, row.colour, label=told))
    if not row.certain:
        marks.append(Dot(x(100 * row.gain), y, 3.4, "paper"))
    return marks


def _written(row: Row) -> str:
    if row.bounds is None or not all(map(math.isfinite, row.bounds)):
        return f"{points(row.gain)} (one seed)"
    low, high = map(points, row.bounds)
    return f"{points(row.gain)} [{low}, {high}]"
