"""What fusion changed for each client: one stem a client, one dot a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.report.axes import Frame, Scale, padded, plain, points, ticks
from experiments.report.drawing import Dot, Drawing, Line, Mark, Text, shortened

WIDTH, HEIGHT = 480.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 56.0, 46.0
NAMED = 24
"""With more clients than this only their rank is on the axis."""


def gain_strip(
    gains: npt.NDArray[np.floating],
    client_ids: Sequence[int],
    *,
    title: str,
    span: tuple[float, float] | None = None,
) -> Drawing:
    """Return one panel: the clients from the one that lost most to the one that gained most.

    Args:
        gains: [S, K], accuracy with the method minus without, per seed and client; NaN where a
            seed lacks a client.
        client_ids: [K].
        title: The panel's name.
        span: Range of the gains in points, to share between panels; that of ``gains`` if None.
    """
    there = np.isfinite(gains).any(axis=0)
    gains, ids = 100 * gains[:, there], np.asarray(client_ids)[there]
    means = np.nanmean(gains, axis=0)
    order = np.argsort(means, kind="stable")
    low, high = span or span_of([gains / 100])
    y = Scale(low, high, HEIGHT - BOTTOM, TOP)
    x = Scale(-0.7, max(len(ids), 1) - 0.3, LEFT, WIDTH - RIGHT)
    named = len(ids) <= NAMED
    marks = Frame(
        x,
        y,
        range(len(ids)) if named else [],
        ticks(low, high),
        "client, by its gain" if named else f"{len(ids)} clients, by their gain",
        "gain over local training, points",
        lambda rank: str(ids[order[int(rank)]]),
        lambda value: points(value / 100).replace(".0", "") if value else plain(0),
    ).marks()
    marks.append(Text(0, 18, shortened(title, WIDTH - 8, 13.5), "ink", 13.5, bold=True))
    marks.append(Line(((LEFT, y(0)), (WIDTH - RIGHT, y(0))), "axis", 1.4))
    stem = float(np.clip(0.5 * (x(1) - x(0)), 1.0, 5.0))
    for rank, client in enumerate(order):
        marks += _client(x(rank), y, stem, int(ids[client]), gains[:, client])
    won, lost = int((means > 0).sum()), int((means < 0).sum())
    about = (
        f"Mean gain {points(float(means.mean()) / 100)} points; "
        f"{won} clients above zero, {lost} below."
    )
    return Drawing(WIDTH, HEIGHT, tuple(marks), title, about)


def span_of(panels: Sequence[npt.NDArray[np.floating]]) -> tuple[float, float]:
    """Return a range of gains in points that fits every panel, zero included."""
    values = [0.0, *(100 * value for panel in panels for value in panel.ravel().tolist())]
    return padded(values, least=2.0)


def _client(
    x: float, y: Scale, stem: float, client: int, gains: npt.NDArray[np.floating]
) -> list[Mark]:
    mean = float(np.nanmean(gains))
    colour = "gain" if mean > 0 else "loss" if mean < 0 else "base"
    seeds = gains[np.isfinite(gains)]
    told = f"client {client}: {points(mean / 100)} points"
    marks: list[Mark] = [Line(((x, y(0)), (x, y(mean))), colour, stem, opacity=0.55, label=told)]
    if len(seeds) > 1:
        marks += (Dot(x, y(value), 1.7, "ink", 0.45) for value in seeds)
        told = f"client {client}: mean of {len(seeds)} seeds {points(mean / 100)} points"
    marks.append(Dot(x, y(mean), min(4.0, stem + 1), colour, label=told))
    return marks
