"""A figure: panels, a legend, words that say how to read it, and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.report.drawing import Box, Drawing, Line, Mark, Text, moved, text_width

GAP = 16.0
TITLE_SIZE = 15.0


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend: a stroke, or a filled square if ``filled``."""

    label: str
    colour: str
    dash: str = ""
    filled: bool = False
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Numbers:
    """Tidy numbers: one observation a row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """What a section of the report shows.

    Args:
        name: One word for ``--figure`` and for the page's anchors.
        title: A heading.
        caption: How to read it, in plain sentences.
        panels: From left to right, then down.
        numbers: What is drawn, for ``--format csv``.
        legend: Shared by the panels.
        columns: Panels beside each other where there is room.
        frames: If the panels are moments of one thing: the name of each moment, in order; the
            panels then come in equal groups, one group a moment, and the page shows one at a time.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Drawing, ...]
    numbers: Numbers
    legend: tuple[Key, ...] = ()
    columns: int = 2
    frames: tuple[str, ...] = ()

    def frame(self, number: int) -> tuple[Drawing, ...]:
        """Return the panels of a moment."""
        each = len(self.panels) // len(self.frames)
        return self.panels[number * each : (number + 1) * each]


def sheet(figure: Figure) -> Drawing:
    """Return the whole figure as one drawing, with its title and legend, for a file."""
    columns = max(1, min(4 if figure.frames else figure.columns, len(figure.panels)))
    width = max(panel.width for panel in figure.panels)
    total = GAP + columns * (width + GAP)
    marks: list[Mark] = [Text(GAP, 30, figure.title, "ink", TITLE_SIZE, bold=True)]
    legend, tall = _legend(figure.legend, total - 2 * GAP)
    marks += (moved(mark, GAP, 40) for mark in legend)
    top = 40 + tall + GAP
    for start in range(0, len(figure.panels), columns):
        row = figure.panels[start : start + columns]
        for i, panel in enumerate(row):
            marks += (moved(mark, GAP + i * (width + GAP), top) for mark in panel.marks)
        top += max(panel.height for panel in row) + GAP
    return Drawing(total, top, tuple(marks), figure.title, figure.caption)


def _legend(keys: Sequence[Key], width: float) -> tuple[list[Mark], float]:
    """Return the entries in lines of at most ``width``, and how high they are."""
    marks: list[Mark] = []
    x, y = 0.0, 14.0
    for key in keys:
        needed = 30 + text_width(key.label) + 16
        if x and x + needed > width:
            x, y = 0.0, y + 20
        if key.filled:
            marks.append(Box(x + 6, y - 10, 12, 12, key.colour, key.opacity))
        else:
            marks.append(Line(((x, y - 4), (x + 24, y - 4)), key.colour, 2.2, key.dash))
        marks.append(Text(x + 30, y, key.label, "ink"))
        x += needed
    return marks, y + 6 if keys else 0.0


def chosen(count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``count`` positions, evenly spread, the first and last included.

    >>> chosen(3, 12), chosen(101, 5)
    ([0, 1, 2], [0, 25, 50, 75, 100])
    """
    if count <= most:
        return list(range(count))
    return sorted({math.floor(i * (count - 1) / (most - 1) + 0.5) for i in range(most)})
