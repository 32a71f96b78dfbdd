"""Who listened to whom in a round, as a matrix and as a graph, and on which class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.report.drawing import Area, Box, Dot, Drawing, Mark, Pixels, Text, heading

LEFT, RIGHT, TOP = 44.0, 26.0, 62.0
WIDEST = 400.0
"""A matrix gains nothing by being larger."""
NUMBERED = 12
"""Up to so many clients the matrix carries its numbers."""
STRONGEST = 3
"""Arrows a client has at most in the graph."""


def weight_matrix(
    weights: npt.NDArray[np.floating],
    *,
    title: str,
    ids: Sequence[int] = (),
    brightest: float = 1.0,
    width: float = WIDEST,
) -> Drawing:
    """Return the matrix of one round.

    Args:
        weights: [k, k], row = receiver, column = source; rows sum to 1, or are zero for a client
            that took no part.
        title: The panel's name, with its round.
        ids: The clients' numbers; 0 to k-1 if there are none.
        brightest: The weight in full colour, to share between rounds: among a hundred clients
            none comes near 1.
        width: In pixels.
    """
    clients, side = len(weights), min(width, WIDEST) - LEFT - RIGHT
    step, ids = side / clients, ids or range(clients)
    scaled = np.sqrt(weights / brightest)  # small weights stay visible
    marks: list[Mark] = [
        heading(title, min(width, WIDEST)),
        Text(0, TOP - 22, "columns: whose knowledge"),
        Box(LEFT, TOP, side, side, outline="grid"),
        Pixels(LEFT, TOP, side, side, 0.72 * scaled, label="weights"),
    ]
    every = max(1, math.ceil(max(18, 8 * len(str(max(ids)))) / step))
    for client in range(0, clients, every):
        middle = step * (client + 0.5)
        marks.append(Text(LEFT + middle, TOP - 6, str(ids[client]), anchor="middle"))
        marks.append(Text(LEFT - 8, TOP + middle + 4, str(ids[client]), anchor="end"))
    marks.append(Text(0, TOP + side + 20, "rows: who learns from it"))
    most = f"full colour: {brightest:.2g}"
    marks.append(Text(LEFT + side, TOP + side + 20, most, anchor="end"))
    if clients <= NUMBERED:
        size = min(12.0, step * 0.38)
        for i, j in np.ndindex(weights.shape):
            x, y = LEFT + step * (j + 0.5), TOP + step * (i + 0.5) + size / 3
            text = f"{weights[i, j]:.2f}".removeprefix("0")
            marks.append(Text(x, y, text, "ink", size, "middle"))
    own = float(np.diag(weights).mean())
    about = f"Weights of {clients} clients' knowledge for each other; mean self-weight {own:.2f}."
    return Drawing(min(width, WIDEST), TOP + side + 30, tuple(marks), title, about)


def class_map(
    shares: npt.NDArray[np.floating],
    *,
    title: str,
    ids: Sequence[int] = (),
    brightest: float = 1.0,
    width: float = WIDEST,
) -> Drawing:
    """Return how much each source counted for each class in one round.

    Args:
        shares: [k, C], columns sum to 1.
        title: The panel's name, with its round.
        ids: The clients' numbers; 0 to k-1 if there are none.
        brightest: The share in full colour, to share between rounds.
        width: In pixels.
    """
    (clients, classes), ids = shares.shape, ids or range(len(shares))
    wide = min(width, WIDEST) - LEFT - RIGHT
    row, column = min(wide / clients, 24.0), wide / classes
    tall = row * clients
    marks: list[Mark] = [
        heading(title, min(width, WIDEST)),
        Text(0, TOP - 22, "columns: classes"),
        Box(LEFT, TOP, wide, tall, outline="grid"),
        Pixels(LEFT, TOP, wide, tall, 0.72 * np.sqrt(shares / brightest), label="shares by class"),
    ]
    for client in range(0, clients, max(1, math.ceil(14 / row))):
        middle = TOP + row * (client + 0.5) + 4
        marks.append(Text(LEFT - 8, middle, str(ids[client]), anchor="end"))
    marks += [
        Text(LEFT + column * (c + 0.5), TOP - 6, str(c), anchor="middle")
        for c in range(0, classes, max(1, math.ceil(20 / column)))
    ]
    marks.append(Text(0, TOP + tall + 20, "rows: whose knowledge"))
    most = f"full colour: {brightest:.2g}"
    marks.append(Text(LEFT + wide, TOP + tall + 20, most, anchor="end"))
    if clients <= NUMBERED and column >= 24:
        for j, c in np.ndindex(shares.shape):
            x, y = LEFT + column * (c + 0.5), TOP + row * (j + 0.5) + 4
            text = f"{shares[j, c]:.2f}".removeprefix("0")
            marks.append(Text(x, y, text, "ink", 11, "middle"))
    about = f"Shares of {clients} clients' knowledge in what is taught of {classes} classes."
    return Drawing(min(width, WIDEST), TOP + tall + 30, tuple(marks), title, about)


def neighbour_graph(
    weights: npt.NDArray[np.floating],
    *,
    title: str,
    ids: Sequence[int] = (),
    width: float = WIDEST,
) -> Drawing:
    """Return the same round as a graph: wedges run from a source to the point at its receiver.

    Only weights above an equal share of 1/k are drawn, each receiver's three largest, so that a
    plain mean has no wedge at all.

    Args:
        weights: As for :func:`weight_matrix`.
        title: The panel's name, with its round.
        ids: The clients' numbers; 0 to k-1 if there are none.
        width: In pixels.
    """
    clients, side = len(weights), min(width, WIDEST) - LEFT - RIGHT
    ids = ids or range(clients)
    centre, ring = (LEFT + side / 2, TOP + side / 2), side / 2 - 16
    angles = 2 * np.pi * np.arange(clients) / clients - np.pi / 2
    places = np.stack(
        [centre[0] + ring * np.cos(angles), centre[1] + ring * np.sin(angles)], axis=1
    )
    radius = float(np.clip(ring * np.pi / clients * 0.55, 2.5, 14.0))
    marks: list[Mark] = [heading(title, min(width, WIDEST))]
    edges = strongest(weights)
    for i, j in edges:
        share = float(weights[i, j])
        marks.append(_wedge(places[j], places[i], radius, share))
    for client, (x, y) in enumerate(places):
        own = float(weights[client, client])
        told = f"client {ids[client]}: self-weight {own:.2f}"
        marks.append(Dot(x, y, radius, "paper"))
        marks.append(Dot(x, y, radius, "heat", 0.15 + 0.85 * own, label=told))
        if radius >= 9:
            marks.append(Text(x, y + 4, str(ids[client]), "ink", 12, "middle", bold=True))
    if not edges:
        x, y = centre
        marks.append(Text(x, y, "nobody above an equal share", anchor="middle"))
    about = f"{len(edges)} weights above an equal share among {clients} clients."
    return Drawing(min(width, WIDEST), TOP + side + 30, tuple(marks), title, about)


def strongest(weights: npt.NDArray[np.floating]) -> list[tuple[int, int]]:
    """Return the (receiver, source) pairs that the graph draws.

    >>> strongest(np.array([[0.5, 0.5], [0.9, 0.1]]))
    [(1, 0)]
    """
    clients = len(weights)
    pairs = []
    for i, row in enumerate(weights):
        others = [j for j in np.argsort(-row, kind="stable") if j != i]
        pairs += [(i, int(j)) for j in others[:STRONGEST] if row[j] > 1.001 / clients]
    return pairs


def _wedge(
    source: npt.NDArray[np.floating],
    receiver: npt.NDArray[np.floating],
    radius: float,
    share: float,
) -> Mark:
    """Return a triangle, wide at the source, that ends at the receiver's edge."""
    direction = receiver - source
    length = float(np.hypot(*direction)) or 1.0
    along = direction / length
    across = np.array([-along[1], along[0]])
    width = 1.0 + 0.8 * radius * math.sqrt(share)
    tip = receiver - along * radius
    left, right = source + across * width / 2, source - across * width / 2
    points = tuple((float(x), float(y)) for x, y in (left, tip, right))
    return Area(points, "heat", 0.25 + 0.6 * share)
