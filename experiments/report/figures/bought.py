"""What bytes buy: each method's gain over local training against what it sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.report.axes import Frame, Scale, padded, plain, points, size, ticks
from experiments.report.drawing import Dot, Drawing, Line, Mark, heading
from experiments.report.figures.beside import Rectangle, name_marks
from experiments.report.layout import PANEL

APART = 13.0
"""Pixels between methods that send about the same."""
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 56.0, 46.0


@dataclass(frozen=True, slots=True)
class Bought:
    """A method.

    Args:
        label: Its name.
        colour: Its role in the theme.
        sent: Bytes up and down.
        gain: Its mean gain over local training, as a share.
        bounds: The ends of the interval of ``gain``; None with one seed.
        reference: Whether the line runs through it that others are read against.
    """

    label: str
    colour: str
    sent: float
    gain: float
    bounds: tuple[float, float] | None = None
    reference: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """Return the lower and the upper end in points; both the gain without an interval."""
        low, high = self.bounds or (self.gain, self.gain)
        return 100 * low, 100 * high


def bought(places: Sequence[Bought], *, title: str, width: float = PANEL) -> Drawing:
    """Return one panel: bytes to the right, the gain upwards, a line through the references.

    Args:
        places: The methods.
        title: The panel's name.
        width: In pixels; the height follows.
    """
    height = 70 + 0.72 * width
    sent = [place.sent for place in places]
    ends = [end for place in places for end in place.ends]
    # Local training is in view unless the methods would be squeezed into less than half for it.
    zero = [0.0] if min(map(abs, ends)) <= max(ends) - min(ends) else []
    first, last = padded(sent, share=0.18, least=0.1 * max(sent, default=1.0))
    x = Scale(max(0.0, first), last, LEFT, width - RIGHT)
    y = Scale(*padded([*zero, *ends], share=0.08, least=1.0), height - BOTTOM, TOP)
    at = beside([x(place.sent) for place in places])
    marks: list[Mark] = Frame(
        x,
        y,
        ticks(x.low, x.high, max(3, int(width / 80))),
        ticks(y.low, y.high),
        "sent by a client and to it, in the whole run",
        "gain over local training, points",
        size,
        lambda value: f"+{plain(value)}" if value > 0 else plain(value),
    ).marks()
    marks.append(heading(title, width))
    if y.low <= 0 <= y.high:
        marks.append(Line(((x.start, y(0)), (x.end, y(0))), "axis", 1.4))
    known = sorted((place for place in places if place.reference), key=lambda place: place.sent)
    if len(known) > 1:
        line = tuple((at[places.index(place)], y(100 * place.gain)) for place in known)
        marks.append(Line(line, "base", 5.0, opacity=0.3))
    strokes: list[Rectangle] = []
    for place, px in zip(places, at, strict=True):
        low, high = (y(end) for end in place.ends)
        strokes.append(Rectangle(px - 1, high - 1, px + 1, low + 1))
        if place.bounds is not None:
            marks.append(Line(((px, low), (px, high)), place.colour, 1.6, label=_told(place)))
    marks += name_marks(
        [(px, y(100 * place.gain)) for place, px in zip(places, at, strict=True)],
        [place.label for place in places],
        [place.reference for place in places],
        Rectangle(x.start, y.end, x.end, y.start),
        strokes,
    )
    marks += [
        Dot(px, y(100 * place.gain), 5.5, place.colour, label=_told(place))
        for place, px in zip(places, at, strict=True)
    ]
    about = f"Bytes and gain over local training: {'; '.join(map(_told, places))}."
    return Drawing(width, height, tuple(marks), title, about)


def beside(places: Sequence[float], least: float = APART) -> list[float]:
    """Return places with those that lie closer than ``least`` moved apart, about their mean.

    >>> beside([100.0, 40.0, 100.0], least=10.0)
    [95.0, 40.0, 105.0]
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(places)), key=lambda i: places[i]):
        groups.append([i])
        while len(groups) > 1 and _starts(groups[-1], places, least) < (
            _starts(groups[-2], places, least) + least * len(groups[-2])
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = list(places)
    for group in groups:
        if len(group) > 1:
            start = _starts(group, places, least)
            for n, i in enumerate(group):
                moved[i] = start + n * least
    return moved


def _starts(group: Sequence[int], places: Sequence[float], least: float) -> float:
    """Return where the first of a group stands whose members are ``least`` apart."""
    return sum(places[i] for i in group) / len(group) - least * (len(group) - 1) / 2


def _told(place: Bought) -> str:
    interval = ""
    if place.bounds is not None:
        interval = " [{}, {}]".format(*map(points, place.bounds))
    return f"{place.label}: {size(place.sent)}, {points(place.gain)}{interval}"
