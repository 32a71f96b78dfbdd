"""K5: do a scorer's weights tell what a client's knowledge is worth to another?

A client's worth to another is measured by leaving it out: what the other reaches with everybody's
mean, minus what it reaches with the mean of everybody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.claims.shared import Array, Row, difference, mean_of, read
from experiments.results import TESTS, Run, RunGroup, comparisons
from fedfuse.errors import ConfigError

WORTH = {"accuracy_own": 1, "loss_own": -1}
"""How worth is measured, and whether more of it is better. Accuracy is what counts, in steps of a
test sample; the loss tells small differences."""


def utility(whole: Array, without: Array) -> Array:
    """Return what each source is worth to each receiver, [K, K]; NaN on the diagonal.

    Args:
        whole: [K], each receiver's accuracy with everybody's knowledge.
        without: [K, K], row = receiver, column = the source that was left out.

    >>> utility(np.array([0.9, 0.8]), np.array([[0.9, 0.7], [0.85, 0.8]])).round(2).tolist()
    [[nan, 0.2], [-0.05, nan]]
    """
    worth = whole[:, None] - without
    return np.where(np.eye(len(whole), dtype=bool), np.nan, worth)


def rank_correlation(one: Array, other: Array) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; NaN where all are equal.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.1, 0.9])).__round__(3)
    0.866
    """
    left, right = _ranks(one), _ranks(other)
    left, right = left - left.mean(), right - right.mean()
    scale = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / scale if scale > 0 else float("nan")


def agreement(weights: Array, worth: Array) -> Array:
    """Return for each receiver the rank correlation of the weights it gives with their worth, [K].

    Its own knowledge does not count.
    """
    count = len(weights)
    others = [np.flatnonzero(np.arange(count) != k) for k in range(count)]
    return np.array(
        [rank_correlation(weights[k, who], worth[k, who]) for k, who in enumerate(others)]
    )


def scorers(*folders: Path) -> Iterator[Row]:
    """Yield each scorer's agreement with the worth that was measured, and what it gains.

    Raises:
        ConfigError: If the folder lacks the runs without one client, or the plain mean.
    """
    yield (
        *("scorer", "rank correlation with worth by accuracy [95%]", "by loss [95%]"),
        *(f"{title}: gain over local [95%]" for title in TESTS.values()),
    )
    for run_group in read(*folders):
        worth = {metric: _worth(run_group, metric, sign) for metric, sign in WORTH.items()}
        gained = {test: comparisons(run_group, test) for test in TESTS}
        for name, runs in run_group.methods.items():
            scored = [run for run in runs if _left_out(run) is None and run.weights is not None]
            if not scored:
                continue
            told = []
            for metric in WORTH:
                rows = [
                    agreement(run.weights.matrix(0).astype(float), worth[metric][run.seed])
                    for run in scored
                    if run.weights is not None and run.seed in worth[metric]
                ]
                told.append(mean_of(rows, scale=1.0, digits=2))
            yield (_scorer(runs[0]), *told, *(difference(gained[t].get(name)) for t in TESTS))


def _worth(run_group: RunGroup, metric: str, sign: int) -> dict[int, Array]:
    """Return, per seed, the worth of every client to every other, [K, K]."""
    whole: dict[int, Array] = {}
    without: dict[int, dict[int, Array]] = {}
    for run in (run for runs in run_group.methods.values() for run in runs):
        values = run.arm.last(metric)
        if values is None:
            continue
        left_out = _left_out(run)
        if left_out is not None:
            without.setdefault(run.seed, {})[left_out] = sign * values
        elif _scorer(run) == "uniform":
            whole[run.seed] = sign * values
    found = {}
    for seed, values in whole.items():
        columns = without.get(seed, {})
        if len(columns) == len(values):
            table = np.stack([columns[k] for k in range(len(values))], axis=1)
            found[seed] = utility(values, table)
    if not found:
        raise ConfigError(
            "the worth of knowledge cannot be told from these runs",
            got=f"{len(whole)} seeds with the plain mean, {len(without)} with clients left out",
            allowed="both, for every client of a seed",
            next_step="Run experiment=k5 and experiment=k5_without into one folder.",
        )
    return found


def _left_out(run: Run) -> int | None:
    """Return the client whose knowledge the others did without, if there is one."""
    client = int(run.config.get("neighbours", {}).get("client", -1))
    return client if client >= 0 else None


def _scorer(run: Run) -> str:
    return str(run.config["scorer"]["_target_"]).rsplit(".", 1)[-1].lower()


def _ranks(values: Sequence[float] | Array) -> Array:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[where])
