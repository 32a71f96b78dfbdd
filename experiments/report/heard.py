"""Who is heard: the weights of a run's fusions, between clients and by class."""

from __future__ import annotations

import numpy as np

from experiments.report.figure import Figure, Numbers, chosen
from experiments.report.figures.effectiveness import class_map, neighbour_graph, weight_matrix
from experiments.report.lines import Array
from experiments.results import Run


def who_is_heard(name: str, run: Run, most: int, suffix: str, width: float) -> Figure | None:
    """Return the weights of a run between its clients; None if they are the same for everybody.

    Args:
        name: The method's.
        run: The run.
        most: Rounds that are shown, at most.
        suffix: What tells the figure's name from those of others.
        width: Of a panel, in pixels.
    """
    found = run.weights
    if found is None or not len(found.rounds) or all(is_uniform(own) for own in found.each):
        return None
    shown = chosen(len(found.rounds), most)
    brightest = max(float(found.each[i].max()) for i in shown) or 1.0
    panels, rows = [], []
    for i in shown:
        title, ids = f"{name}, round {found.rounds[i]}", found.clients[i].tolist()
        panels.append(
            weight_matrix(found.each[i], title=title, ids=ids, brightest=brightest, width=width)
        )
        panels.append(neighbour_graph(found.each[i], title=title, ids=ids, width=width))
        rows += [
            (int(found.rounds[i]), ids[r], ids[c], float(w))
            for (r, c), w in np.ndenumerate(found.each[i])
        ]
    return Figure(
        f"effectiveness{suffix}",
        f"Who listens to whom: {name}",
        "Left: a row per client that learns, a column per client it learns from; a row sums to "
        "1, the diagonal is what a client keeps of itself. Right: wedges run from a source to "
        "the client at their point, drawn for weights above an equal share, a client's three "
        f"largest. The fuller a disc, the more the client trusts itself. Seed {run.seed}."
        + (" Weights differ by class: this is their mean." if found.class_shares else ""),
        tuple(panels),
        Numbers(("round", "receiver", "source", "weight"), tuple(rows)),
        frames=tuple(f"round {found.rounds[i]}" for i in shown),
    )


def heard_by_class(name: str, run: Run, most: int, suffix: str, width: float) -> Figure | None:
    """Return how much each client's knowledge counted for each class; None if alike for all.

    Args: as of :func:`who_is_heard`.
    """
    found = run.weights
    if found is None or not found.class_shares:
        return None
    shown = chosen(len(found.rounds), most)
    brightest = max(float(found.class_shares[i].max()) for i in shown) or 1.0
    panels, rows = [], []
    for i in shown:
        title, ids = f"{name}, round {found.rounds[i]}", found.clients[i].tolist()
        shares = found.class_shares[i]
        panels.append(class_map(shares, title=title, ids=ids, brightest=brightest, width=width))
        rows += [
            (int(found.rounds[i]), ids[j], c, float(w)) for (j, c), w in np.ndenumerate(shares)
        ]
    return Figure(
        f"classes{suffix}",
        f"Who is heard on which class: {name}",
        "A row per client whose knowledge is fused, a column per class: the stronger the colour, "
        "the more its knowledge counts for that class, the mean over those who learn from it. A "
        f"column sums to 1. Seed {run.seed}.",
        tuple(panels),
        Numbers(("round", "source", "class", "share"), tuple(rows)),
        frames=tuple(f"round {found.rounds[i]}" for i in shown),
    )


def is_uniform(weights: Array) -> bool:
    """Tell whether everybody counts the same for everybody who takes part."""
    taking = np.asarray(weights.any(axis=-1))
    shares = taking[..., None, :] / np.maximum(taking.sum(axis=-1), 1)[..., None, None]
    return bool(np.allclose(weights, np.where(taking[..., None], shares, 0.0), atol=1e-5))
