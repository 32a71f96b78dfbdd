"""Robustness: what fusing changes where inputs are blurred or moved against the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.claims.shared import Row, federation, marked, mean_of, read
from experiments.results import Run
from experiments.results.probed import both, change
from fedfuse.compare import corrected
from fedfuse.probes import CLEAN

PERTURBED = {"accuracy_blur": "blur", "accuracy_fgsm": "FGSM", "accuracy_pgd": "PGD"}
"""The probes' metrics, and what they are called."""

ASKED = {CLEAN: "clean", **PERTURBED}


def robustness(*folders: Path) -> Iterator[Row]:
    """Yield each method's accuracy under perturbations over local training's, of the same clients.

    What is left of it once the gain on clean inputs is taken off says whether the method withstands
    more, or only knows more.
    """
    yield (
        *("federation", "method"),
        *(f"{name}: local, Δ [95%]" for name in ASKED.values()),
        *(f"{name}: Δ beyond clean [95%]" for name in PERTURBED.values()),
    )
    groups = [(federation(group), group.methods) for group in read(*folders)]
    found = [
        (place, name, runs, {metric: change(runs, metric) for metric in ASKED})
        for place, methods in groups
        for name, runs in methods.items()
    ]
    page = [
        (f"{place}, {name}, {ASKED[metric]}" if place != "-" else f"{name}, {ASKED[metric]}", one)
        for place, name, _, changes in found
        for metric, one in changes.items()
    ]
    bold = marked(page)
    for place, name, runs, changes in found:
        if not any(changes.values()):
            continue
        cells = [
            "-" if one is None else f"{100 * one.baseline_mean:.1f}, {bold(one)}"
            for one in changes.values()
        ]
        yield (place, name, *cells, *(mean_of(beyond(runs, metric)) for metric in PERTURBED))
    yield (f"Bold: certain. {corrected(page)}",)


def beyond(runs: Sequence[Run], metric: str) -> list[np.ndarray]:
    """Return per seed what each client's change on a metric [K] is more than that on clean ones."""
    pairs = [(both(run, metric), both(run, CLEAN)) for run in runs]
    return [
        (moved[0] - moved[1]) - (clean[0] - clean[1])
        for moved, clean in pairs
        if moved is not None and clean is not None
    ]
