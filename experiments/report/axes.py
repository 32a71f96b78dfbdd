"""From numbers to places on a panel: scales, ticks, and the frame around a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.report.drawing import Line, Mark, Text, shortened
from fedfuse.compare import signed


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of numbers on a range of pixels.

    Args:
        low: Smallest number.
        high: Largest number, above ``low``.
        start: The pixel of ``low``.
        end: The pixel of ``high``.
        log: Whether equal factors take equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a number."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def padded(
    values: Sequence[float], *, share: float = 0.06, least: float = 0.0
) -> tuple[float, float]:
    """Return the range of the finite values with some air, at least ``least`` wide.

    >>> padded([1.0, 2.0], share=0.5)
    (0.5, 2.5)
    >>> low, high = padded([3e12])  # neither end is rounded to the value itself
    >>> low < 3e12 < high
    True
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    air = max((high - low) * share, (least - (high - low)) / 2, 1e-9 * max(1.0, -low, high))
    return low - air, high + air


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers inside a range, about ``count`` of them.

    >>> ticks(0, 100)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def whole_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return the same for a quantity that comes in whole numbers."""
    return [tick for tick in ticks(low, high, count) if tick == int(tick)] or [math.ceil(low)]


def plain(value: float) -> str:
    """Return a tick's label, without trailing zeros.

    >>> plain(20.0), plain(0.25), plain(-5.0)
    ('20', '0.25', '−5')
    """
    return f"{value:g}".replace("-", "−")


def size(value: float) -> str:
    """Return a number of bytes in a unit.

    >>> size(0), size(999), size(20_000), size(1_500_000)
    ('0', '999 B', '20 kB', '1.5 MB')
    """
    if value == 0:
        return "0"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def seconds(value: float) -> str:
    """Return a duration in a unit that fits it.

    >>> seconds(0.0123), seconds(12.34), seconds(200), seconds(9000)
    ('12 ms', '12.3 s', '3.3 min', '2.5 h')
    """
    if value < 1:
        return f"{1000 * value:.2g} ms" if value < 0.01 else f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def points(value: float) -> str:
    """Return a difference of accuracies in points, with its sign.

    >>> points(0.0174), points(-0.05), points(0.0001), points(0.0)
    ('+1.7', '−5.0', '+0.01', '0.0')
    """
    return signed(value).replace("-", "−")


@dataclass(frozen=True, slots=True)
class Frame:
    """The axes of a plot: grid lines, ticks and what they measure.

    Args:
        x: The horizontal scale.
        y: The vertical scale; its start is at the bottom.
        x_ticks: Numbers to mark.
        y_ticks: Numbers to mark.
        x_label: What runs to the right, with its unit.
        y_label: What runs upwards, with its unit; it stands above the axis, not turned.
        x_text: How a number becomes a tick's label.
        y_text: The same upwards.
    """

    x: Scale
    y: Scale
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_label: str
    y_label: str
    x_text: Callable[[float], str] = plain
    y_text: Callable[[float], str] = plain

    def marks(self) -> list[Mark]:
        """Return what stands behind the data."""
        left, right = self.x.start, self.x.end
        bottom, top = self.y.start, self.y.end
        marks: list[Mark] = [Text(0, top - 14, shortened(self.y_label, right), "muted")]
        for tick in self.y_ticks:
            y = self.y(tick)
            marks.append(Line(((left, y), (right, y)), "grid"))
            marks.append(Text(left - 8, y + 4, self.y_text(tick), anchor="end"))
        if self.x_ticks:
            marks.append(Line(((left, bottom), (right, bottom)), "axis"))
        for tick in self.x_ticks:
            x = self.x(tick)
            marks.append(Line(((x, bottom), (x, bottom + 4)), "axis"))
            marks.append(Text(x, bottom + 18, self.x_text(tick), anchor="middle"))
        marks.append(Text(right, bottom + 36, self.x_label, anchor="end"))
        return marks
