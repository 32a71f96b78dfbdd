"""Where the time went: a bar a method, a stretch a phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.report.axes import Scale, seconds, ticks
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
from experiments.report.figure import Key
from experiments.report.layout import PANEL
from experiments.report.theme import PHASES

LEFT, RIGHT, TOP, STEP = 110.0, 70.0, 40.0, 30.0
USUAL = ("train", "fuse", "distill")


def phase_colours(bars: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Return the phases of all bars, the usual ones first, each with its colour."""
    names = [*USUAL, *sorted({name for bar in bars for name in bar} - set(USUAL))]
    colours = {name: PHASES[i % len(PHASES)] for i, name in enumerate(names)}
    return {name: colours[name] for name in names if any(name in bar for bar in bars)}


def phase_keys(bars: Sequence[Mapping[str, float]]) -> tuple[Key, ...]:
    """Return the legend of :func:`time_bars`."""
    return tuple(Key(name, role, filled=True) for name, role in phase_colours(bars).items())


def time_bars(
    bars: Mapping[str, Mapping[str, float]], *, title: str, width: float = PANEL
) -> Drawing:
    """Return one panel.

    Args:
        bars: Per method the seconds of each phase, a mean over its seeds.
        title: The panel's name.
        width: In pixels.
    """
    colours = phase_colours(list(bars.values()))
    longest = max((sum(bar.values()) for bar in bars.values()), default=0.0) or 1.0
    x = Scale(0, longest, LEFT, width - RIGHT)
    bottom = TOP + STEP * len(bars)
    marks: list[Mark] = [heading(title, width)]
    for tick in ticks(0, longest, int(width / 120)):
        marks.append(Line(((x(tick), TOP), (x(tick), bottom)), "grid"))
        text = seconds(tick) if tick else "0"
        marks.append(Text(x(tick), bottom + 16, text, anchor="middle"))
    for i, (method, phases) in enumerate(bars.items()):
        y, start = TOP + STEP * i, 0.0
        marks.append(Text(0, y + 20, shortened(method, LEFT - 12), "ink"))
        for name, role in colours.items():
            spent = phases.get(name, 0.0)
            length = x(start + spent) - x(start)
            told = f"{method}, {name}: {seconds(spent)}"
            marks.append(Box(x(start), y + 6, length, STEP - 12, role, label=told))
            start += spent
        total = seconds(start)
        marks.append(Text(min(x(start) + 8, width - text_width(total)), y + 20, total, "ink"))
    about = "; ".join(f"{name} {seconds(sum(bar.values()))}" for name, bar in bars.items())
    return Drawing(width, bottom + 24, tuple(marks), title, f"Wall time: {about}.")
