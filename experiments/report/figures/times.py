"""Where the time went: a bar a method, a stretch a phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.report.axes import Scale, seconds, ticks
from experiments.report.drawing import Box, Drawing, Line, Mark, Text, shortened, text_width
from experiments.report.figure import Key

WIDTH, LEFT, RIGHT, TOP, STEP = 480.0, 110.0, 70.0, 40.0, 30.0
PHASES = {"train": "s0", "fuse": "s1", "distill": "s2"}
_SPARE = ("s3", "s4", "s5", "base")


def phase_colours(bars: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Return the phases of all bars, the usual ones first, each with its colour."""
    names = [name for name in PHASES if any(name in bar for bar in bars)]
    others = sorted({name for bar in bars for name in bar} - set(PHASES))
    spare = {name: _SPARE[i % len(_SPARE)] for i, name in enumerate(others)}
    return {name: PHASES[name] for name in names} | spare


def phase_keys(bars: Sequence[Mapping[str, float]]) -> tuple[Key, ...]:
    """Return the legend of :func:`time_bars`."""
    return tuple(Key(name, role, filled=True) for name, role in phase_colours(bars).items())


def time_bars(bars: Mapping[str, Mapping[str, float]], *, title: str) -> Drawing:
    """Return one panel.

    Args:
        bars: Per method the seconds of each phase, a mean over its seeds.
        title: The panel's name.
    """
    colours = phase_colours(list(bars.values()))
    longest = max((sum(bar.values()) for bar in bars.values()), default=0.0) or 1.0
    x = Scale(0, longest, LEFT, WIDTH - RIGHT)
    bottom = TOP + STEP * len(bars)
    marks: list[Mark] = [Text(0, 18, shortened(title, WIDTH - 8, 13.5), "ink", 13.5, bold=True)]
    for tick in ticks(0, longest, 4):
        marks.append(Line(((x(tick), TOP), (x(tick), bottom)), "grid"))
        text = seconds(tick) if tick else "0"
        marks.append(Text(x(tick), bottom + 16, text, anchor="middle"))
    for i, (method, phases) in enumerate(bars.items()):
        y, start = TOP + STEP * i, 0.0
        marks.append(Text(0, y + 20, shortened(method, LEFT - 12), "ink"))
        for name, role in colours.items():
            spent = phases.get(name, 0.0)
            width = x(start + spent) - x(start)
            told = f"{method}, {name}: {seconds(spent)}"
            marks.append(Box(x(start), y + 6, width, STEP - 12, role, label=told))
            start += spent
        total = seconds(start)
        marks.append(Text(min(x(start) + 8, WIDTH - text_width(total)), y + 20, total, "ink"))
    about = "; ".join(f"{name} {seconds(sum(bar.values()))}" for name, bar in bars.items())
    return Drawing(WIDTH, bottom + 24, tuple(marks), title, f"Wall time: {about}.")
