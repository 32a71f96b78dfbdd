"""A figure: panels, a legend, words that say how to read it, and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.report.drawing import Box, Drawing, Line, Mark, Text, moved, shortened, text_width
from experiments.report.layout import GAP, Layout

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


def sheet(figure: Figure, layout: Layout | None = None) -> Drawing:
    """Return the whole figure as one drawing, with its title and legend, for a file.

    Args:
        figure: The figure; its panels were drawn for the same layout.
        layout: Where panels go; as on the page if None.
    """
    layout = layout or Layout()
    wanted = 4 if figure.frames else figure.columns
    columns = max(1, min(wanted, len(figure.panels), layout.most or wanted))
    width = max(panel.width for panel in figure.panels)
    across = width * columns + GAP * (columns - 1)
    if layout.most is not None:  # a paper's column is full, whatever its figure needs
        across = max(across, layout.whole)
    margin, top = layout.margin, layout.margin
    marks: list[Mark] = []
    if layout.heading:
        title = shortened(figure.title, across / 1.12, TITLE_SIZE)
        marks.append(Text(margin, 30, title, "ink", TITLE_SIZE, bold=True))
        top = 40
    legend, tall = _legend(figure.legend, across)
    marks += (moved(mark, margin, top) for mark in legend)
    top += tall + (GAP if layout.heading else 4)
    for start in range(0, len(figure.panels), columns):
        row = figure.panels[start : start + columns]
        for i, panel in enumerate(row):
            marks += (moved(mark, margin + i * (width + GAP), top) for mark in panel.marks)
        top += max(panel.height for panel in row) + GAP
    height = top if layout.heading else top - GAP + margin
    return Drawing(across + 2 * margin, height, tuple(marks), figure.title, figure.caption)


def _legend(keys: Sequence[Key], width: float) -> tuple[list[Mark], float]:
    """Return the entries in lines of at most ``width``, and how high they are."""
    marks: list[Mark] = []
    x, y = 0.0, 14.0
    for key in keys:
        label = shortened(key.label, width - 30)
        needed = 30 + text_width(label) + 16
        if x and x + needed > width:
            x, y = 0.0, y + 20
        if key.filled:
            marks.append(Box(x + 6, y - 10, 12, 12, key.colour, key.opacity))
        else:
            marks.append(Line(((x, y - 4), (x + 24, y - 4)), key.colour, 2.2, key.dash))
        marks.append(Text(x + 30, y, label, "ink"))
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
