"""A figure as a list of marks, from which an SVG and a PNG are made alike.

Coordinates are pixels from the upper left corner. Colours are roles of :mod:`theme`, so that the
same drawing follows the reader's light or dark page.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FONT_SIZE = 12.0
"""Of most text; a panel that is 480 pixels wide stays readable on a telephone."""

HEADING = 13.5
"""Of a panel's name."""

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A stroke through points; ``label`` is what a pointer resting on it is told."""

    points: tuple[Point, ...]
    colour: str
    width: float = 1.0
    dash: str = ""
    opacity: float = 1.0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Area:
    """A filled polygon without a stroke."""

    points: tuple[Point, ...]
    colour: str
    opacity: float = 0.16


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, filled if it has a ``colour`` and stroked if it has an ``outline``."""

    x: float
    y: float
    width: float
    height: float
    colour: str = ""
    opacity: float = 1.0
    outline: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Dot:
    """A disc."""

    x: float
    y: float
    radius: float
    colour: str
    opacity: float = 1.0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text on its baseline; ``anchor`` is start, middle or end."""

    x: float
    y: float
    text: str
    colour: str = "muted"
    size: float = FONT_SIZE
    anchor: str = "start"
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Pixels:
    """A matrix of values from 0 to 1 (``values`` [rows, columns]), as the opacity of one colour.

    A picture costs a few hundred bytes where a rectangle a cell would cost megabytes.
    """

    x: float
    y: float
    width: float
    height: float
    values: npt.NDArray[np.floating]
    colour: str = "heat"
    label: str = ""


Mark: TypeAlias = Line | Area | Box | Dot | Text | Pixels


@dataclass(frozen=True, slots=True)
class Drawing:
    """One panel.

    Args:
        width: In pixels.
        height: In pixels.
        marks: From back to front.
        title: Its name for those who do not see it.
        description: What it shows, in a sentence.
    """

    width: float
    height: float
    marks: tuple[Mark, ...]
    title: str
    description: str = ""


def moved(mark: Mark, x: float, y: float) -> Mark:
    """Return the mark, moved.

    >>> moved(Dot(1, 2, 3, "ink"), 10, 20)
    Dot(x=11, y=22, radius=3, colour='ink', opacity=1.0, label='')
    """
    if isinstance(mark, Line | Area):
        return replace(mark, points=tuple((px + x, py + y) for px, py in mark.points))
    return replace(mark, x=mark.x + x, y=mark.y + y)


_EMS = {
    **dict.fromkeys("ijl|'IJ .,:;/", 0.34),
    **dict.fromkeys('frt()[]{}-!"', 0.42),
    **dict.fromkeys("ABCDEFGHKLNOPQRSTUVXYZ&", 0.75),
    **dict.fromkeys("+−=±×<>~", 0.84),
    **dict.fromkeys("mwMW@%…—", 1.0),
}
"""Widths of letters that are not as wide as most, of DejaVu Sans: few faces are wider."""


def text_width(text: str, size: float = FONT_SIZE) -> float:
    """Return about how wide a text is in a sans-serif face; a little generous."""
    return size * sum(map(_em, text))


def _em(letter: str) -> float:
    if letter <= "~":
        return _EMS.get(letter, 0.64)
    if unicodedata.combining(letter):
        return 0.0
    return 1.05 if unicodedata.east_asian_width(letter) in "WF" else _EMS.get(letter, 0.7)


def heading(text: str, width: float) -> Text:
    """Return a panel's name in bold at its top, cut to its width."""
    return Text(0, 18, shortened(text, width / 1.12, HEADING), "ink", HEADING, bold=True)


def shortened(text: str, width: float, size: float = FONT_SIZE) -> str:
    """Return the text, cut with an ellipsis where it would be wider than ``width``.

    >>> shortened("a name that is far too long", 68)
    'a name t…'
    """
    room, kept = width - text_width("…", size), len(text)
    for i, letter in enumerate(text):
        width -= _em(letter) * size
        if width < 0:
            return f"{text[:kept]}…"
        room -= _em(letter) * size
        if room < 0:
            kept = min(kept, i)
    return text
