"""Who holds which classes: a row a client, a column a class, a bar for how much it holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.report.drawing import Box, Drawing, Mark, Pixels, Text, heading
from experiments.report.layout import PANEL

TOP, LEFT, BARS = 46.0, 44.0, 120.0
TALLEST = 420.0


def label_map(
    counts: npt.NDArray[np.integer],
    *,
    title: str,
    ids: Sequence[int] = (),
    width: float = PANEL,
) -> Drawing:
    """Return one panel.

    Colours have one scale, from no share of a client's samples to all of them, so that the maps
    of two federations can be compared.

    Args:
        counts: [K, C], training samples per client and class.
        title: The panel's name.
        ids: The clients' numbers; 0 to K-1 if there are none.
        width: In pixels.
    """
    clients, classes = counts.shape
    ids = ids or range(clients)
    step = float(np.clip(TALLEST / clients, 2.0, 20.0))
    tall, wide = step * clients, width - LEFT - BARS
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    marks: list[Mark] = [
        heading(title, width),
        Text(0, TOP - 8, "client"),
        Text(LEFT + wide + 12, TOP - 8, "samples"),
        Box(LEFT, TOP, wide, tall, outline="grid"),
        Pixels(LEFT, TOP, wide, tall, shares, label="label shares"),
    ]
    every = max(1, int(np.ceil(14 / step)))
    longest = BARS - 60
    for client in range(clients):
        y = TOP + step * client
        length = longest * totals[client] / max(int(totals.max()), 1)
        held = int((counts[client] > 0).sum())
        told = f"client {ids[client]}: {totals[client]} samples of {held} classes"
        height = max(step - 3, step * 0.7)
        marks.append(
            Box(LEFT + wide + 12, y + (step - height) / 2, length, height, "base", label=told)
        )
        if client % every == 0:
            middle = y + step / 2 + 4
            marks.append(Text(LEFT - 8, middle, str(ids[client]), anchor="end"))
            if every == 1:  # between thinner bars there is no room
                marks.append(Text(LEFT + wide + 18 + length, middle, str(totals[client])))
    if every > 1:
        most = f"longest: {int(totals.max())}"
        marks.append(Text(LEFT + wide + 12, TOP + tall + 16, most))
    marks += _classes(classes, wide, TOP + tall)
    marks.append(Text(LEFT + wide, TOP + tall + 34, "class", anchor="end"))
    marks += _scale(TOP + tall + 44, wide)
    about = (
        f"{clients} clients hold {int(totals.min())} to {int(totals.max())} samples of "
        f"{_fewest_and_most((counts > 0).sum(axis=1))} of {classes} classes."
    )
    return Drawing(width, TOP + tall + 62, tuple(marks), title, about)


def _scale(y: float, wide: float) -> list[Mark]:
    """Return what the colours mean: the same in every map."""
    length = min(120.0, wide / 2)
    shades = np.linspace(0, 1, 101)[None]
    return [
        Pixels(LEFT + 30, y, length, 11, shades, label="0 to 100%"),
        Box(LEFT + 30, y, length, 11, outline="grid"),
        Text(LEFT + 24, y + 10, "0%", anchor="end"),
        Text(LEFT + 36 + length, y + 10, "100% of a client's samples"),
    ]


def _classes(classes: int, wide: float, y: float) -> list[Mark]:
    step = wide / classes
    every = max(1, int(np.ceil(20 / step)))
    return [
        Text(LEFT + step * (c + 0.5), y + 16, str(c), anchor="middle")
        for c in range(0, classes, every)
    ]


def _fewest_and_most(held: Sequence[int] | npt.NDArray[np.integer]) -> str:
    low, high = int(min(held)), int(max(held))
    return str(low) if low == high else f"{low} to {high}"
