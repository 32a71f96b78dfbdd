"""The figure of both gains: a panel per federation, a point per method, the Pareto front drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.report.drawing import Drawing
from experiments.report.figure import Figure, Numbers
from experiments.report.figures.frontier import Place, frontier
from experiments.report.layout import PANEL
from experiments.report.lines import Looks
from experiments.results import Compared
from fedfuse.compare import LOCAL, Comparison, pareto_front

OWN, BALANCED = "accuracy_own", "accuracy_global"
PANELS = 12
"""So many federations are drawn at most."""


def frontier_figure(
    federations: Sequence[Sequence[Compared]], style: Looks, width: float = PANEL
) -> Figure | None:
    """Return what methods win at home against what they win on the balanced test.

    Args:
        federations: The comparisons with local training of each.
        style: How methods look.
        width: Of a panel, in pixels.

    Returns:
        The figure; None where no federation has two methods that were tested both ways.
    """
    panels: list[Drawing] = []
    rows: list[tuple[Any, ...]] = []
    for done in federations:
        found, alone = _both(done), {item.method for item in done if item.alone}
        if len(found) < 2 or len(panels) == PANELS:
            continue
        places = [Place(LOCAL, style[LOCAL][0], 0.0, 0.0, alone=True)]
        places += [
            Place(
                *(name, style[name][0], own.mean, balanced.mean),
                *(own.bounds, balanced.bounds),
                alone=name in alone,
            )
            for name, (own, balanced) in found.items()
        ]
        federation = done[0].federation
        panels.append(frontier(places, title=federation or "Both tests", width=width))
        front = pareto_front(np.array([(place.own, place.balanced) for place in places]))
        rows += [
            (
                *(federation, place.label, place.own, *(place.own_bounds or (None, None))),
                *(place.balanced, *(place.balanced_bounds or (None, None)), bool(best)),
            )
            for place, best in zip(places, front, strict=True)
        ]
    if not panels:
        return None
    names = "federation method own own_low own_high balanced balanced_low balanced_high front"
    return Figure(
        "frontier",
        "Both tests at once",
        "To the right what a method wins on the clients' own distributions, upwards what it wins "
        "on the balanced test set, both over local training (the square where the zero lines "
        "cross), with 95% intervals where there are several seeds. Right of and above both zero "
        "lines it wins on both tests. The steps are the Pareto front: for what is on it (in bold) "
        "no mean is as good on both tests and better on one; what lies in the tint is beaten. "
        "Squares train alone.",
        tuple(panels),
        Numbers(tuple(names.split()), tuple(rows)),
    )


def _both(done: Sequence[Compared]) -> dict[str, tuple[Comparison, Comparison]]:
    """Return the comparisons on both tests of every method that has both."""
    own, balanced = (
        {
            item.method: item.found
            for item in done
            if (item.test, item.over) == (test, LOCAL) and item.found.speaks
        }
        for test in (OWN, BALANCED)
    )
    return {name: (own[name], balanced[name]) for name in own if name in balanced}
