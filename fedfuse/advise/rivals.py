"""What others would say of fusing: rules of sizes and distances, as far as they could be read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TRADE_OFF = 10.0
"""FedCollab's C as its authors' examples have it on pictures."""
RESTARTS = 10
"""Of the search for coalitions; the authors take 100."""


def distances(halves: Array) -> Array:
    """Return how far apart every two clients' label distributions are, from 0 to 1, [K, K].

    FedCollab's half C-divergence: two clients train a classifier that tells their samples apart,
    and its share of right answers on held-out samples of either, added up, less 1 is the distance
    (Bao et al., ICML 2023, arXiv 2306.06508). Here the classifier sees labels alone, learns on one
    half of the samples and is asked about the other, and both ways count alike: ours, and exact
    where clients differ in nothing but their mix of classes.

    Args:
        halves: Samples of either half by client and class, [2, K, C].

    >>> distances(np.array([[[4, 0], [0, 4]], [[4, 0], [1, 3]]]))
    array([[0.   , 0.875],
           [0.875, 0.   ]])
    """
    shares = halves / np.maximum(halves.sum(axis=2, keepdims=True), 1)
    found = np.zeros((halves.shape[1],) * 2)
    for learned, asked in (shares, shares[::-1]):
        ahead = learned[:, None] > learned[None]
        apart = ((asked[:, None] - asked[None]) * ahead).sum(axis=2)
        found += (apart + apart.T) / 4
    return np.maximum(found, 0.0)


def coalitions(sizes: Array, apart: Array, trade_off: float = TRADE_OFF) -> list[int]:
    """Return which coalition each client is in by FedCollab's rule, numbered by its first member.

    The mean over the clients of ``C / sqrt(n_S) + sum_j n_j / n_S D_ij`` is to be small, S the
    client's coalition and n_S its samples. Clients begin alone and move, in random order, where it
    falls most; of several searches the best counts (formula and search: the authors' code).

    Args:
        sizes: Samples of each client, [K].
        apart: Their distances, [K, K].
        trade_off: C.

    >>> near = np.array([[0.0, 0.1, 0.9], [0.1, 0.0, 0.9], [0.9, 0.9, 0.0]])
    >>> coalitions(np.array([100, 100, 900]), near)
    [0, 0, 2]
    """
    n, clients, rng = sizes.astype(float), len(sizes), np.random.default_rng(0)
    pull = apart * n + apart.T * n[:, None]  # what i and j add to each other's shift, times n_S

    def costs(count: Array, total: Array, shift: Array) -> Array:
        there = np.maximum(total, 1.0)  # of nobody all three are 0
        return np.asarray(count * trade_off / np.sqrt(there) + shift / there)

    best, least = np.arange(clients), math.inf
    for _ in range(RESTARTS):
        group, moved = np.arange(clients), True
        while moved:
            moved = False
            for i in rng.permutation(clients).tolist():
                member = group[None] == np.arange(clients)[:, None]
                member[:, i] = False
                count, total = member.sum(axis=1), member @ n
                shift = ((member @ pull) * member).sum(axis=1) / 2
                without = costs(count, total, shift)
                added = costs(count + 1, total + n[i], shift + member @ pull[i]) - without
                to = int(np.argmin(added))
                if added[to] < added[group[i]] - 1e-12:
                    group[i], moved = to, True
        member = group[None] == np.arange(clients)[:, None]
        shift = ((member @ pull) * member).sum(axis=1) / 2
        found = float(costs(member.sum(axis=1), member @ n, shift).sum())
        if found < least - 1e-12:
            least, best = found, group.copy()
    return [int(np.flatnonzero(best == of)[0]) for of in best]


def heterogeneity(sizes: Array, apart: Array) -> Array:
    """Return each client's squared distance from the others times its samples, [K].

    Learning alone is minimax optimal where heterogeneity R squared exceeds a constant times 1 / n,
    fusing where it does not (Chen et al. 2021, arXiv 2103.01901, from public summaries). What
    stands for R squared, the mean squared :func:`distances` of the others, and one constant
    learned from cases (:attr:`~fedfuse.advise.score.Past.threshold`) are ours.
    """
    others = max(len(sizes) - 1, 1)
    return np.asarray((apart**2).sum(axis=1) / others * sizes)


def threshold(values: Array, gains: Array) -> float:
    """Return below which value fusing would have paid best; 0 if it never did.

    >>> threshold(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.1, 0.05, -0.01, 0.02]))
    5.0
    >>> threshold(np.array([1.0, 2.0, 3.0]), np.array([0.1, -0.2, 0.1]))
    1.5
    """
    order = np.argsort(values, kind="stable")
    ascending, paid = values[order], np.concatenate([[0.0], np.cumsum(gains[order])])
    cuts = np.concatenate([[0.0], (ascending[:-1] + ascending[1:]) / 2, [ascending[-1] + 1]])
    distinct = np.concatenate([[True], ascending[:-1] < ascending[1:], [True]])
    return float(cuts[distinct][int(np.argmax(paid[distinct]))])
