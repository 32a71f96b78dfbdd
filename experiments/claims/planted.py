"""K3: are the neighbours that a scorer finds those that were planted?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def precision_at(weights: Array, groups: npt.NDArray[np.integer], k: int) -> float:
    """Return the share of each client's k heaviest other sources that are of its own group.

    Clients whose group has fewer than k others are scored on as many as it has.

    Args:
        weights: Fusion weights [K, K], row = receiver.
        groups: int [K].
        k: Sources per client.

    >>> w = np.array([[0.5, 0.4, 0.1], [0.4, 0.5, 0.1], [0.3, 0.3, 0.4]])
    >>> precision_at(w, np.array([0, 0, 1]), 1)
    1.0
    """
    hits, asked = 0, 0
    for client, row in enumerate(weights):
        others = np.flatnonzero(groups == groups[client])
        wanted = min(k, len(others) - 1)
        if wanted == 0 or not row.any():
            continue
        without = np.where(np.arange(len(row)) == client, -np.inf, row)
        best = np.argsort(-without, kind="stable")[:wanted]
        hits += int((groups[best] == groups[client]).sum())
        asked += wanted
    return hits / asked if asked else float("nan")


def mass_inside(weights: Array, groups: npt.NDArray[np.integer]) -> float:
    """Return the share of the weight that stays within the receiver's group, in the mean.

    >>> mass_inside(np.full((4, 4), 0.25), np.array([0, 0, 1, 1]))
    0.5
    """
    same = groups[:, None] == groups[None, :]
    return float((weights * same).sum(axis=1).mean())


def self_mass(weights: Array) -> float:
    """Return the weight that clients give themselves, in the mean."""
    return float(np.diagonal(weights).mean())
