"""Names beside points, so that none covers another or a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments.report.drawing import FONT_SIZE, Line, Mark, Point, Text, text_width

HEIGHT = 13.0
"""Pixels of a line of text."""
CLEAR = 9.0
"""From a point to its name."""
RINGS = (1.0, 2.0, 3.2, 4.6, 6.2, 8.0)
"""How far out names are tried, in multiples of :data:`CLEAR`; from the second on with a leader."""
DIRECTIONS = (
    *((1.0, 0.0), (-1.0, 0.0), (0.7, -0.7), (-0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)),
    *((0.0, -1.0), (0.0, 1.0)),
)
"""Where to, the best first."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of a panel, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Rectangle) -> float:
        """Return the area that two have in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, frame: Rectangle) -> float:
        """Return how much of it lies outside of a frame."""
        area = (self.right - self.left) * (self.bottom - self.top)
        return area - self.overlap(frame)


def place_names(
    points: Sequence[Point],
    widths: Sequence[float],
    frame: Rectangle,
    avoid: Sequence[Rectangle] = (),
) -> list[tuple[Rectangle, bool]]:
    """Return where each point's name goes, and whether it stands so far that it needs a leader.

    One after the other takes the nearest place at which it covers no point and no name, and no
    stroke if it can; then each once more, now that all have one. Where there is no such place, it
    is the one that covers least.

    Args:
        points: In pixels.
        widths: Of the names, one a point.
        frame: What names stay inside.
        avoid: Strokes that names had better not cover.
    """
    dots = [Rectangle(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    found: dict[int, tuple[Rectangle, bool]] = {}
    for _ in range(2):
        for i, (point, width) in enumerate(zip(points, widths, strict=True)):
            others = [place for j, (place, _) in found.items() if j != i]
            cost = float("inf")
            for ring, place in _places(point, width):
                # A step away from the point costs as much as a thin stroke through a few letters.
                covered = 6 * ring + 20 * place.outside(frame)
                covered += 10 * sum(map(place.overlap, others)) + 4 * sum(map(place.overlap, dots))
                covered += sum(map(place.overlap, avoid))
                if covered < cost:
                    found[i], cost = (place, ring > 0), covered
    return [found[i] for i in range(len(points))]


def name_marks(
    points: Sequence[Point],
    names: Sequence[str],
    bold: Sequence[bool],
    frame: Rectangle,
    avoid: Sequence[Rectangle] = (),
) -> list[Mark]:
    """Return the names as marks, with a thin line to the points of those that stand apart."""
    marks: list[Mark] = []
    widths = [
        text_width(name) * (1.1 if strong else 1.0)
        for name, strong in zip(names, bold, strict=True)
    ]
    places = place_names(points, widths, frame, avoid)
    for (x, y), name, strong, (place, far) in zip(points, names, bold, places, strict=True):
        if far:
            near = min(max(x, place.left), place.right), min(max(y, place.top), place.bottom)
            marks.append(Line(((x, y), near), "axis", 0.8))
        marks.append(Text(place.left, place.bottom - 3, name, "ink", FONT_SIZE, bold=strong))
    return marks


def _places(point: Point, width: float) -> Iterator[tuple[int, Rectangle]]:
    """Yield the places that are tried, the nearest first, each with the number of its ring."""
    for ring, reach in enumerate(RINGS):
        for dx, dy in DIRECTIONS:
            x, y = point[0] + dx * reach * CLEAR, point[1] + dy * reach * CLEAR
            left = x if dx > 0 else x - width if dx < 0 else x - width / 2
            yield ring, Rectangle(left, y - HEIGHT / 2, left + width, y + HEIGHT / 2)
