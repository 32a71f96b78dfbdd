"""What a method wins at home against what it wins on the balanced test, and whom nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from experiments.report.axes import Frame, Scale, padded, plain, points, ticks
from experiments.report.drawing import Area, Box, Dot, Drawing, Line, Mark, Point, Text, heading
from experiments.report.figures.beside import Rectangle, name_marks
from experiments.report.layout import PANEL
from fedfuse.compare import pareto_front

LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 56.0, 46.0
CORNER = 100.0
"""Pixels of the words in the upper right corner."""

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """A method.

    Args:
        label: Its name.
        colour: Its role in the theme.
        own: Its mean gain on the clients' own distributions, as a share.
        balanced: The same on the balanced test set.
        own_bounds: The ends of the interval of ``own``; None with one seed.
        balanced_bounds: The same of ``balanced``.
        alone: Whether its clients train alone: a control and not a method that fuses.
    """

    label: str
    colour: str
    own: float
    balanced: float
    own_bounds: Bounds | None = None
    balanced_bounds: Bounds | None = None
    alone: bool = False


def frontier(places: Sequence[Place], *, title: str, width: float = PANEL) -> Drawing:
    """Return one panel: the own gain to the right, the balanced gain upwards.

    Args:
        places: Methods and controls, local training at (0, 0) among them.
        title: The panel's name.
        width: In pixels; the height follows.
    """
    height = 70 + 0.72 * width
    xs = [100 * end for place in places for end in (place.own, *(place.own_bounds or ()))]
    ys = [100 * end for place in places for end in (place.balanced, *(place.balanced_bounds or ()))]
    x = Scale(*padded([0.0, *xs], share=0.1, least=2.0), LEFT, width - RIGHT)
    y = Scale(*padded([0.0, *ys], share=0.1, least=2.0), height - BOTTOM, TOP)
    marks = Frame(
        x,
        y,
        ticks(x.low, x.high, max(3, int(width / 60))),
        ticks(y.low, y.high),
        "own distribution: gain over local training, points",
        "balanced test set: gain over local training, points",
        _signed,
        _signed,
    ).marks()
    marks.append(heading(title, width))
    marks.append(Line(((x.start, y(0)), (x.end, y(0))), "axis", 1.4))
    marks.append(Line(((x(0), y.start), (x(0), y.end)), "axis", 1.4))
    front = pareto_front(np.array([(place.own, place.balanced) for place in places]))
    steps = _steps([one for one, best in zip(places, front, strict=True) if best], x, y)
    marks.append(Area((*steps, (x.start, y.start)), "base", 0.08))
    marks.append(Line(steps, "base", 5.0, opacity=0.3))
    if x.end - x(0) > CORNER:
        marks.append(Box(x.end - CORNER, y.end, CORNER, 16, "paper"))
        marks.append(Text(x.end - 4, y.end + 12, "better on both", "muted", anchor="end"))
    zero = ((x.start, y(0)), (x.end, y(0)), (x(0), y.start), (x(0), y.end))
    strokes = [*pairwise(steps), zero[:2], zero[2:]]
    bars = [_covered(*stroke) for stroke in strokes]
    for place in places:
        lines = _bars(place, x, y)
        marks += lines
        bars += [_covered(*line.points) for line in lines]
    marks += name_marks(
        [(x(100 * place.own), y(100 * place.balanced)) for place in places],
        [place.label for place in places],
        front.tolist(),
        Rectangle(x.start, y.end + 14, x.end, y.start),
        bars,
    )
    for place in places:
        marks += _point(place, x, y)
    told = "; ".join(_told(place) for place in places)
    best = ", ".join(one.label for one, of_it in zip(places, front, strict=True) if of_it)
    about = f"Gains in points, own and balanced: {told}. On the Pareto front: {best}."
    return Drawing(width, height, tuple(marks), title, about)


def _steps(best: Sequence[Place], x: Scale, y: Scale) -> tuple[Point, ...]:
    """Return the corners of the front, from the left edge to the lower one."""
    corners = [(x.start, y(100 * max(one.balanced for one in best)))]
    for one in sorted(best, key=lambda one: one.own):
        at = x(100 * one.own), y(100 * one.balanced)
        corners += [(corners[-1][0], at[1]), at]
    return (*corners, (corners[-1][0], y.start))


def _covered(one: Point, other: Point) -> Rectangle:
    """Return what a stroke covers that runs to the right, or upwards."""
    (left, right), (top, bottom) = (sorted(ends) for ends in zip(one, other, strict=True))
    return Rectangle(left - 1, top - 1, right + 1, bottom + 1)


def _bars(place: Place, x: Scale, y: Scale) -> list[Line]:
    """Return both intervals."""
    at, ends = (x(100 * place.own), y(100 * place.balanced)), []
    if place.own_bounds is not None:
        ends.append(tuple((x(100 * end), at[1]) for end in place.own_bounds))
    if place.balanced_bounds is not None:
        ends.append(tuple((at[0], y(100 * end)) for end in place.balanced_bounds))
    return [Line(both, place.colour, 1.6, label=_told(place)) for both in ends]


def _point(place: Place, x: Scale, y: Scale) -> list[Mark]:
    """Return a disc for a method, a square for training alone."""
    at, told = (x(100 * place.own), y(100 * place.balanced)), _told(place)
    if place.alone:
        return [Box(at[0] - 5, at[1] - 5, 10, 10, place.colour, label=told)]
    return [Dot(*at, 5.5, place.colour, label=told)]


def _told(place: Place) -> str:
    sides = ((place.own, place.own_bounds), (place.balanced, place.balanced_bounds))
    return f"{place.label}: {', '.join(_written(mean, bounds) for mean, bounds in sides)}"


def _written(mean: float, bounds: Bounds | None) -> str:
    if bounds is None:
        return points(mean)
    low, high = map(points, bounds)
    return f"{points(mean)} [{low}, {high}]"


def _signed(value: float) -> str:
    return f"+{plain(value)}" if value > 0 else plain(value)
