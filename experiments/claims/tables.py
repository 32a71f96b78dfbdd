"""The tables behind docs/findings.md, each from the runs in a folder, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.claims.planted import mass_inside, precision_at, self_mass
from experiments.results import TESTS, Lineup, Run, comparisons, lineups, load
from fedfuse.compare import Comparison, compare
from fedfuse.errors import ConfigError

Row = Sequence[str]


REFERENCE = "mean"
"""Besides local training, methods are measured against the plain mean, where it is there."""


def gains(folder: Path) -> Iterator[Row]:
    """K1, K4, K9, K10: gains over local training and over the plain mean, per test set."""
    yield (
        *("federation", "method"),
        *(f"{title}: local, gain [95%], +/−" for title in TESTS.values()),
        *(f"{title}: over the mean" for title in TESTS.values()),
    )
    for lineup in _lineups(folder):
        found = {test: comparisons(lineup, test) for test in TESTS}
        for name in found["accuracy_own"]:
            yield (
                *(lineup.label or "-", name),
                *(_gain(found[test][name]) for test in TESTS),
                *(_over_mean(lineup, name, test) for test in TESTS),
            )


def _over_mean(lineup: Lineup, name: str, test: str) -> str:
    """Return a method's gain over the plain mean, on the seeds that both have."""
    others = {run.seed: run.arm.last(test) for run in lineup.methods.get(REFERENCE, ())}
    pairs = [
        (run.seed, ours, theirs)
        for run in lineup.methods[name]
        if (ours := run.arm.last(test)) is not None and (theirs := others.get(run.seed)) is not None
    ]
    if name == REFERENCE or not pairs:
        return "-"
    ours = np.stack([row for _, row, _ in pairs])
    theirs = np.stack([row for _, _, row in pairs])
    return _interval(compare(ours, theirs, seeds=tuple(seed for seed, _, _ in pairs)))


def planted(folder: Path) -> Iterator[Row]:
    """K3: precision@k of the heaviest sources against planted groups, first and last fusion."""
    yield (
        *("method", "seed", "k", "precision@k, first fusion", "last"),
        *("weight within the group, first", "last", "self-weight, last"),
    )
    for lineup in _lineups(folder):
        for name, runs in lineup.methods.items():
            for run in runs:
                if run.weights is None:
                    continue
                groups, k = _groups(run), 1
                k = max(1, int(np.bincount(groups).max()) - 1)
                first, last = run.weights[1][0], run.weights[1][-1]
                yield (
                    *(name, str(run.seed), str(k)),
                    *(f"{precision_at(w, groups, k):.2f}" for w in (first, last)),
                    *(f"{mass_inside(w, groups):.2f}" for w in (first, last)),
                    f"{self_mass(last):.2f}",
                )


def traffic(folder: Path) -> Iterator[Row]:
    """K11: what a client sends and receives a round that fuses, and what that buys."""
    yield (
        *("federation", "method", "kB a client and round, up", "down"),
        *(f"{title}: gain [95%]" for title in TESTS.values()),
    )
    for lineup in _lineups(folder):
        found = {test: comparisons(lineup, test) for test in TESTS}
        for name, runs in lineup.methods.items():
            if name not in found["accuracy_own"]:
                continue
            up, down = (np.mean([_per_round(run, way) for run in runs]) for way in ("up", "down"))
            shown = [_interval(found[test][name]) for test in TESTS]
            yield (lineup.label or "-", name, f"{up:.1f}", f"{down:.1f}", *shown)


CLAIMS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "k1": gains,
    "k3": planted,
    "k4": gains,
    "k9": gains,
    "k10": gains,
    "k11": traffic,
}
"""Claim to its table; the numbers are those of KnFu's claims in docs/findings.md."""


def _lineups(folder: Path) -> list[Lineup]:
    return lineups(load(folder).runs)


def _gain(found: Comparison) -> str:
    return (
        f"{100 * found.baseline_mean:.1f}, {_interval(found)}, "
        f"{found.helped}/{found.harmed} of {found.compared}"
    )


def _interval(found: Comparison) -> str:
    text = f"{100 * found.mean:+.1f}"
    if found.interval is None:
        return f"{text} (1 seed)"
    return f"{text} [{100 * found.interval.low:+.1f}, {100 * found.interval.high:+.1f}]"


def _groups(run: Run) -> np.ndarray:
    """Return the planted group of each client."""
    from fedfuse.partition import LabelGroups

    settings = run.config.get("partitioner", {})
    if "num_groups" not in settings:
        raise ConfigError(
            f"the run '{run.path.name}' has no planted groups",
            got=f"partitioner {settings.get('_target_')}",
            allowed="partitioner=label_groups",
        )
    return np.array(
        LabelGroups(num_groups=settings["num_groups"]).groups(int(run.config["num_clients"]))
    )


def _per_round(run: Run, way: str) -> float:
    """Return kilobytes per client in the rounds in which anything travelled."""
    sizes = run.arm.federation[f"bytes_{way}@fuse"]
    fused = sizes[np.nan_to_num(sizes) > 0]
    return float(fused.mean() / run.summary["num_clients"] / 1000) if len(fused) else 0.0
