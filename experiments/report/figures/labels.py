"""Who holds which classes: a row a client, a column a class, a bar for how much it holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.report.drawing import Box, Drawing, Mark, Pixels, Text, shortened

WIDTH, TOP, LEFT, BARS = 480.0, 46.0, 44.0, 120.0
TALLEST = 420.0


def label_map(counts: npt.NDArray[np.integer], *, title: str) -> Drawing:
    """Return one panel.

    Args:
        counts: [K, C], training samples per client and class.
        title: The panel's name.
    """
    clients, classes = counts.shape
    step = float(np.clip(TALLEST / clients, 2.0, 20.0))
    tall, wide = step * clients, WIDTH - LEFT - BARS
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    marks: list[Mark] = [
        Text(0, 18, shortened(title, WIDTH - 8, 13.5), "ink", 13.5, bold=True),
        Text(0, TOP - 8, "client"),
        Text(LEFT + wide + 12, TOP - 8, "samples"),
        Box(LEFT, TOP, wide, tall, outline="grid"),
        Pixels(
            LEFT, TOP, wide, tall, shares / max(float(shares.max()), 1e-9), label="label shares"
        ),
    ]
    every = max(1, int(np.ceil(14 / step)))
    longest = BARS - 60
    for client in range(clients):
        y = TOP + step * client
        length = longest * totals[client] / max(int(totals.max()), 1)
        held = int((counts[client] > 0).sum())
        told = f"client {client}: {totals[client]} samples of {held} classes"
        height = max(step - 3, step * 0.7)
        marks.append(
            Box(LEFT + wide + 12, y + (step - height) / 2, length, height, "heat", 0.8, label=told)
        )
        if client % every == 0:
            middle = y + step / 2 + 4
            marks.append(Text(LEFT - 8, middle, str(client), anchor="end"))
            if every == 1:  # between thinner bars there is no room
                marks.append(Text(LEFT + wide + 18 + length, middle, str(totals[client])))
    if every > 1:
        most = f"longest: {int(totals.max())}"
        marks.append(Text(LEFT + wide + 12, TOP + tall + 16, most))
    marks += _classes(classes, wide, TOP + tall)
    marks.append(Text(LEFT + wide, TOP + tall + 34, "class", anchor="end"))
    about = (
        f"{clients} clients hold {int(totals.min())} to {int(totals.max())} samples of "
        f"{_fewest_and_most((counts > 0).sum(axis=1))} of {classes} classes."
    )
    return Drawing(WIDTH, TOP + tall + 42, tuple(marks), title, about)


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
