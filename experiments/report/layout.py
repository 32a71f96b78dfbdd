"""How large figures are: as on the page, or as a paper's column wants them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from experiments.report.drawing import FONT_SIZE
from fedfuse.errors import ConfigError

PANEL = 480.0
"""Pixels of a panel on the page."""
BESIDE = 300.0
"""A panel that is narrower than this does not share its row."""
NARROWEST = 250.0
"""Pixels that a figure needs for its axes and names."""
GAP = 16.0

TWO_COLUMNS = 6.9
"""Width of a figure across both columns of many journals and proceedings, in inches."""
PAPER_FONT = 8.0
"""Of most text in a paper's figure, in points."""
MOMENTS = 2
"""Rounds of a figure that has one panel a round, in a paper."""

_UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where panels go and how large a pixel of a drawing is.

    Args:
        panel: Pixels of a panel.
        most: Panels beside each other at most; None for as many as a figure wants.
        scale: Points on paper per pixel.
        margin: Pixels around a figure.
        heading: Whether a figure carries its title; a paper has a caption for that.
    """

    panel: float = PANEL
    most: int | None = None
    scale: float = 1.0
    margin: float = GAP
    heading: bool = True

    @property
    def whole(self) -> float:
        """Return the pixels of a panel that has its row for itself."""
        most = self.most or 1
        return self.panel * most + GAP * (most - 1)


def paper(width: float, font: float = PAPER_FONT) -> Layout:
    """Return the layout of figures that are ``width`` inches wide, their text ``font`` points high.

    Type does not shrink with the figure: a narrower one has its panels below each other.

    Raises:
        ConfigError: If there is no room for letters of that size.

    >>> paper(6.9, 8).most, paper(3.3, 8).most
    (2, 1)
    """
    scale = font / FONT_SIZE
    room = 72 * width / scale
    if room < NARROWEST:
        least = math.ceil(10 * NARROWEST * scale / 72) / 10
        raise ConfigError(
            "the figure is too narrow for its letters",
            got=f"--width {width:g} --font-size {font:g}",
            allowed=f"at least {least:g} inches with {font:g} points",
        )
    most = 2 if room >= 2 * BESIDE + GAP else 1
    # A pixel less, so that no stroke of a panel is cut at the edge.
    return Layout((room - (most - 1) * GAP) / most - 2, most, scale, margin=1.0, heading=False)


def inches(text: str) -> float:
    """Return a width on the command line in inches: ``3.3``, ``3.3in``, ``84mm``, ``8.4cm``.

    Raises:
        ConfigError: If it is no width, or no page has it.
    """
    number, unit = text.strip(), "in"
    for name in _UNITS:
        if number.endswith(name):
            number, unit = number.removesuffix(name), name
    return _between("--width", text, number, _UNITS[unit], 1, 40, "a width of 1 to 40 inches")


def font_size(text: str) -> float:
    """Return a size of letters in points.

    Raises:
        ConfigError: If it is no size that one could read.
    """
    number = text.strip().removesuffix("pt")
    return _between("--font-size", text, number, 1.0, 4, 36, "4 to 36 points")


def _between(
    option: str, text: str, number: str, unit: float, low: float, high: float, allowed: str
) -> float:
    try:
        value = float(number) * unit
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ConfigError(
            f"{option} is not valid",
            got=f"'{text}'",
            allowed=f"{allowed}, for instance {option} {'3.3' if option == '--width' else '8'}",
        )
    return value
