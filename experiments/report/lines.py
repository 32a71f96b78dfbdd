"""From the arms of several seeds to the lines of a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.report.figure import Key
from experiments.report.figures.curves import Series
from experiments.results import Arm

Array = npt.NDArray[np.floating]
Looks = Mapping[str, tuple[str, str]]
"""Per method the colour and the stroke that it has in every figure."""


def stacked(arms: Sequence[Arm], metric: str, phase: str = "fused") -> tuple[Array, Array]:
    """Return the rounds [R] and the mean over the clients, a row per arm [S, R]."""
    rounds = np.unique(np.concatenate([arm.rounds for arm in arms]))
    values = np.full((len(arms), len(rounds)), np.nan)
    for row, arm in zip(values, arms, strict=True):
        found = arm.at(metric, phase)
        if found is not None:
            there = np.isfinite(found).any(axis=1)
            row[np.searchsorted(rounds, arm.rounds[there])] = np.nanmean(found[there], axis=1)
    return rounds.astype(float), values


def line_of(
    name: str, arms: Sequence[Arm], metric: str, style: Looks, scale: float, phase: str = "fused"
) -> Series:
    """Return a metric of a method as a line, its values times ``scale``."""
    rounds, values = stacked(arms, metric, phase)
    return Series(name, *style[name], rounds, scale * values)


def rows_of(what: str, lines: Sequence[Series], scale: float) -> list[tuple[Any, ...]]:
    """Return what the lines draw as tidy rows, their values times ``scale``."""
    return [
        (what, line.label, x, s, scale * value)
        for line in lines
        for s, row in enumerate(line.values)
        for x, value in zip(line.x.tolist(), row.tolist(), strict=True)
    ]


def keys_of(names: Mapping[str, Any], style: Looks) -> tuple[Key, ...]:
    """Return the legend of the methods."""
    return tuple(Key(name, *style[name]) for name in names)


def format_band(arms: Mapping[str, Sequence[Arm]]) -> str:
    """Return what the band around a line is."""
    seeds = sorted({len(found) for found in arms.values()})
    if seeds == [1]:
        return "There is one seed, so there is no band."
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"The band spans its {count} seeds, from the lowest to the highest."
