"""What fusion changed for each client: a stem for every client of every seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.report.axes import Frame, Scale, padded, plain, points, ticks
from experiments.report.drawing import Dot, Drawing, Line, Mark, Text, heading
from experiments.report.figure import Key, chosen
from experiments.report.layout import PANEL
from fedfuse.compare import HARMED, HELPED

HEIGHT = 270.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 56.0, 46.0
NAMED = 24
"""With more stems than this only their rank is on the axis."""
MOST = 400
"""Stems at most; of more, so many are drawn, evenly spread over the order."""

ROLES = {HELPED: "gain", HARMED: "loss"}
KEYS = (
    Key("gain beyond test error", "gain", filled=True),
    Key("loss beyond test error", "loss", filled=True),
    Key("within test error", "base", filled=True, opacity=0.55),
)


def gain_strip(
    gains: npt.NDArray[np.floating],
    outcomes: npt.NDArray[np.integer],
    *,
    title: str,
    seeds: Sequence[int] = (0,),
    span: tuple[float, float] | None = None,
    width: float = PANEL,
) -> Drawing:
    """Return one panel: from the client that lost most to the one that gained most.

    Every seed deals out the data anew, so client 3 of two seeds is two clients: their values stand
    beside each other and are never averaged.

    Args:
        gains: [S, K], accuracy with the method minus without, per seed and client; NaN where a
            seed lacks a client.
        outcomes: [S, K], what is certain of each (:func:`fedfuse.compare.outcomes`).
        title: The panel's name.
        seeds: [S], of the rows.
        span: Range of the gains in points, to share between panels; that of ``gains`` if None.
        width: In pixels.
    """
    found = [(float(gains[s, k]), int(s), int(k)) for s, k in np.argwhere(np.isfinite(gains))]
    found.sort()
    low, high = span or span_of([gains])
    y = Scale(low, high, HEIGHT - BOTTOM, TOP)
    x = Scale(-0.7, max(len(found), 1) - 0.3, LEFT, width - RIGHT)
    named = len(found) <= NAMED and len(gains) == 1
    shown = chosen(len(found), MOST)
    marks = Frame(
        x,
        y,
        [],
        ticks(low, high),
        "client" if named else f"{len(found)} clients{_of(seeds)}, ordered by gain",
        "gain, points",
        y_text=lambda value: f"+{plain(value)}" if value > 0 else plain(value),
    ).marks()
    marks.append(heading(title, width))
    marks.append(Line(((LEFT, y(0)), (width - RIGHT, y(0))), "axis", 1.4))
    room = (x.end - x.start) / max(len(shown), 1)
    stem = float(np.clip(room * 0.5, 0.6, 5.0))
    for rank in shown:
        gain, seed, client = found[rank]
        role = ROLES.get(int(outcomes[seed, client]), "")
        whose = f"client {client}" + (f" of seed {seeds[seed]}" if len(seeds) > 1 else "")
        told = f"{whose}: {points(gain)} points" + ("" if role else ", within its test's error")
        marks += _stem(x(rank), y, 100 * gain, stem, role, told)
        if named:
            marks.append(Text(x(rank), HEIGHT - BOTTOM + 18, str(client), anchor="middle"))
    helped, harmed = (int((outcomes == kind).sum()) for kind in (HELPED, HARMED))
    mean = float(np.mean([np.nanmean(row) for row in gains if np.isfinite(row).any()]))
    about = (
        f"Mean gain {points(mean)} points; of {len(found)} clients {helped} gained and {harmed} "
        "lost beyond the error of their tests."
    )
    return Drawing(width, HEIGHT, tuple(marks), title, about)


def span_of(panels: Sequence[npt.NDArray[np.floating]]) -> tuple[float, float]:
    """Return a range of gains in points that fits every panel, zero included."""
    values = [0.0, *(100 * value for panel in panels for value in panel.ravel().tolist())]
    return padded(values, least=2.0)


def _of(seeds: Sequence[int]) -> str:
    return f" of {len(seeds)} seeds" if len(seeds) > 1 else ""


def _stem(x: float, y: Scale, points_: float, width: float, role: str, told: str) -> list[Mark]:
    colour, opacity = (role, 0.8) if role else ("base", 0.45)
    return [
        Line(((x, y(0)), (x, y(points_))), colour, width, opacity=opacity, label=told),
        Dot(x, y(points_), min(4.0, width / 2 + 1.2), colour, 1.0 if role else 0.7, label=told),
    ]
