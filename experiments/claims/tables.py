"""The tables behind docs/findings.md, each from the runs in one or more folders, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from experiments.claims.adverse import adverse
from experiments.claims.asked import ask, ask_figure
from experiments.claims.drift import drift
from experiments.claims.field import field
from experiments.claims.frontier import frontier
from experiments.claims.gains import changes, gains
from experiments.claims.guarded import guard
from experiments.claims.harm import harm
from experiments.claims.leaked import leaked
from experiments.claims.lessons import lessons
from experiments.claims.merging import merging
from experiments.claims.planted import mass_inside, precision_at, self_mass
from experiments.claims.robustness import robustness
from experiments.claims.shared import Row, difference, federation, kilobytes, read
from experiments.claims.tiers import tiers
from experiments.claims.utility import scorers
from experiments.report.figure import Figure
from experiments.results import TESTS, Run, comparisons
from fedfuse.errors import ConfigError


def planted(*folders: Path) -> Iterator[Row]:
    """K3: precision@k of the heaviest sources against planted groups, first and last fusion."""
    yield (
        *("federation", "method", "seed", "k", "precision@k, first fusion", "last"),
        *("weight within the group, first", "last", "self-weight, last"),
    )
    for run_group in read(*folders):
        for name, runs in run_group.methods.items():
            for run in runs:
                if run.weights is None:
                    continue
                groups = _groups(run)
                k = max(1, int(np.bincount(groups).max()) - 1)
                first, last = run.weights.matrix(0), run.weights.matrix(-1)
                yield (
                    *(federation(run_group), name, str(run.seed), str(k)),
                    *(f"{precision_at(w, groups, k):.2f}" for w in (first, last)),
                    *(f"{mass_inside(w, groups):.2f}" for w in (first, last)),
                    f"{self_mass(last):.2f}",
                )


def traffic(*folders: Path) -> Iterator[Row]:
    """K11: what a client sends and receives a round that fuses, and what that buys."""
    yield (
        *("federation", "method", "kB a client and round, up", "down"),
        *(f"{title}: gain [95%]" for title in TESTS.values()),
    )
    for run_group in read(*folders):
        found = {test: comparisons(run_group, test) for test in TESTS}
        for name, runs in run_group.methods.items():
            if name not in found["accuracy_own"]:
                continue
            up, down = (np.mean([kilobytes(run, way) for run in runs]) for way in ("up", "down"))
            shown = [difference(found[test][name]) for test in TESTS]
            yield (federation(run_group), name, f"{up:.1f}", f"{down:.1f}", *shown)


def _both(*tables: Callable[..., Iterator[Row]]) -> Callable[..., Iterator[Row]]:
    """Return one page of several tables."""

    def page(*folders: Path) -> Iterator[Row]:
        for number, table in enumerate(tables):
            if number:
                yield ("",)
            yield from table(*folders)

    return page


CLAIMS: dict[str, Callable[..., Iterator[Row]]] = {
    "k1": gains,
    "k2": adverse,
    "k3": planted,
    "k4": partial(gains, references=("mean", "shuffled")),
    "k5": scorers,
    "k6": tiers,
    "k7": leaked,
    "k8": drift,
    "k9": gains,
    "k10": gains,
    "k11": traffic,
    "k12": gains,
    "guard": guard,
    "harm": harm,
    "frontier": frontier,
    "frontier_tiers": _both(frontier, tiers),
    "frontier_attack": _both(frontier, adverse),
    "frontier_public": frontier,
    "frontier_shift": frontier,
    "lessons": lessons,
    "lessons_scorers": lessons,
    "lessons_attack": _both(lessons, adverse),
    "lessons_tiers": _both(lessons, tiers),
    "robustness": robustness,
    "flips": changes,
    "merge": merging,
    "ask": ask,
    "table": field,
}
"""Claim to its table; the numbers are those of KnFu's claims in docs/findings.md."""

FIGURES: dict[str, Callable[..., Figure]] = {"ask": ask_figure}
"""Claim to its figure, of those that have one beside what a report draws."""


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
