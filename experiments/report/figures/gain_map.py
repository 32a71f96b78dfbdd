"""Where fusion wins and where it loses: the gain over two properties of a federation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.report.axes import points
from experiments.report.drawing import (
    Box,
    Drawing,
    Line,
    Mark,
    Text,
    heading,
    shortened,
    text_width,
)
from experiments.report.layout import PANEL

LEFT, RIGHT, TOP, BOTTOM = 72.0, 8.0, 66.0, 46.0
TALLEST = 64.0
STRIPES = 9.0
SMALLEST = 7.0
"""Numbers that would be smaller are left to the colours."""
ENDS = 9.5
"""The size of intervals; cells narrower than the widest of them show the gain alone."""


def gain_map(
    gains: npt.NDArray[np.floating],
    shown: npt.NDArray[np.bool_],
    *,
    columns: tuple[str, Sequence[str]],
    rows: tuple[str, Sequence[str]],
    title: str,
    strongest: float,
    bounds: npt.NDArray[np.floating] | None = None,
    width: float = PANEL,
) -> Drawing:
    """Return one panel: a cell per federation.

    Args:
        gains: [Y, X], mean gain as a share; NaN where there is no such federation.
        shown: [Y, X], whether a difference is shown; cells without are hatched.
        columns: What differs from left to right, and its X values.
        rows: What differs from bottom to top, and its Y values; the first is at the bottom.
        title: The panel's name.
        strongest: The gain drawn in full colour, to share between panels.
        bounds: [Y, X, 2], the ends of each gain's interval, NaN where there is none; written below
            the gain where cells are wide enough.
        width: In pixels.
    """
    tall, wide = gains.shape
    step = (width - LEFT - RIGHT) / wide
    height = min(TALLEST, step)
    bottom = TOP + height * tall
    written = [] if bounds is None else [_ends(bounds[place]) for place in np.ndindex(gains.shape)]
    if max((text_width(text, ENDS) for text in written), default=0.0) > step - 4:
        bounds = None
    marks: list[Mark] = [
        heading(title, width),
        Text(0, TOP - 14, shortened(rows[0], width)),
    ]
    for y in range(tall):
        top = bottom - height * (y + 1)
        name = shortened(rows[1][y], LEFT - 12)
        marks.append(Text(LEFT - 8, top + height / 2 + 4, name, anchor="end"))
        for x in range(wide):
            box = (LEFT + step * x, top, step, height)
            ends = "" if bounds is None else _ends(bounds[y, x])
            marks += _cell(box, float(gains[y, x]), bool(shown[y, x]), strongest, ends)
    marks += _outline(gains < 0, LEFT, bottom, step, height)
    for x in range(wide):
        middle = LEFT + step * (x + 0.5)
        marks.append(Text(middle, bottom + 18, shortened(columns[1][x], step), anchor="middle"))
    marks.append(Text(width - RIGHT, bottom + 38, columns[0], anchor="end"))
    won, lost = int((shown & (gains > 0)).sum()), int((shown & (gains < 0)).sum())
    about = (
        f"Fusion wins in {won} and loses in {lost} of {int(np.isfinite(gains).sum())} federations."
    )
    return Drawing(width, bottom + BOTTOM, tuple(marks), title, about)


def _ends(bounds: npt.NDArray[np.floating]) -> str:
    if not np.isfinite(bounds).all():
        return ""
    return f"[{points(float(bounds[0]))}, {points(float(bounds[1]))}]"


def _cell(
    box: tuple[float, float, float, float], gain: float, shown: bool, strongest: float, ends: str
) -> list[Mark]:
    x, y, width, height = box
    if not np.isfinite(gain):
        return [Box(*box, outline="grid")]
    role = "gain" if gain >= 0 else "loss"
    strength = 0.55 * min(1.0, abs(gain) / strongest) if strongest > 0 else 0.0
    told = f"{points(gain)} points" + ("" if shown else ", no difference shown")
    marks: list[Mark] = [Box(*box, role, strength, label=told), Box(*box, outline="paper")]
    if not shown:
        marks += _hatching(box)
    middle = (x + width / 2, y + height / 2 + (-1 if ends else 5))
    size = min(14.0, 14.0 * (width - 4) / text_width(points(gain), 14.0))
    if size < SMALLEST:
        return marks
    plate = 6.0 + max(text_width(points(gain), size), text_width(ends, ENDS))
    if not shown:
        tall = 33 if ends else 19
        marks.append(Box(middle[0] - plate / 2, middle[1] - 14, plate, tall, "paper", 0.85))
    marks.append(Text(*middle, points(gain), "ink", size, "middle", bold=shown))
    if ends:
        marks.append(Text(middle[0], middle[1] + 15, ends, "ink", ENDS, "middle"))
    return marks


def _hatching(box: tuple[float, float, float, float]) -> list[Mark]:
    """Return diagonal strokes, cut to the cell."""
    x, y, width, height = box
    marks: list[Mark] = []
    start = STRIPES / 2
    while start < width + height:
        low, high = max(0.0, start - height), min(start, width)
        line = ((x + low, y + start - low), (x + high, y + start - high))
        marks.append(Line(line, "ink", 0.8, opacity=0.3))
        start += STRIPES
    return marks


def _outline(
    inside: npt.NDArray[np.bool_], left: float, bottom: float, step: float, height: float
) -> list[Mark]:
    """Return the border of the cells that are ``inside``."""
    padded = np.pad(inside, 1)
    marks: list[Mark] = []
    for y, x in np.argwhere(inside):
        x0, x1 = left + step * x, left + step * (x + 1)
        y0, y1 = bottom - height * y, bottom - height * (y + 1)
        sides = (
            (padded[y, x + 1], ((x0, y0), (x1, y0))),
            (padded[y + 2, x + 1], ((x0, y1), (x1, y1))),
            (padded[y + 1, x], ((x0, y0), (x0, y1))),
            (padded[y + 1, x + 2], ((x1, y0), (x1, y1))),
        )
        marks += (Line(line, "loss", 2.6) for same, line in sides if not same)
    return marks
