"""How good trials are, by their clients' validation data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.results import Run, read_run
from fedfuse.errors import ConfigError

ACCURACY, LOSS = "accuracy_val", "loss_val"
"""The metrics that are read of a trial. Its tests are not."""
Array = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Score:
    """How good a trial is on validation data.

    Args:
        trial: Its number; 0 has the method's own settings.
        rung: The rung that it reached.
        accuracy: Mean over federations and clients; NaN if it failed.
        loss: The same of the cross-entropy.
        over_default: Mean difference in accuracy to trial 0 in the same rung.
        error: Standard error of that mean.
    """

    trial: int
    rung: int
    accuracy: float
    loss: float
    over_default: float
    error: float

    @property
    def failed(self) -> bool:
        """Tell whether it has no accuracy."""
        return not np.isfinite(self.accuracy)


def validated(path: Path) -> tuple[Array, Array] | None:
    """Return the validation accuracy and loss of a run's clients, [K] each, in its last round.

    Clients that attack do not count, and those without validation data have NaN.

    Args:
        path: The run's folder.

    Returns:
        None if it has not finished.
    """
    try:
        run = read_run(path)
    except ConfigError:
        return None
    if not run.finished:
        return None
    accuracy, loss = (_honest(run, name) for name in (ACCURACY, LOSS))
    return (accuracy, loss) if np.isfinite(accuracy).any() else None


def _honest(run: Run, metric: str) -> Array:
    values = run.arm.values(metric, run.arm.last_round(metric))
    if values is None:
        return np.full(int(run.config["num_clients"]), np.nan)
    values = values.copy()
    values[list((run.summary.get("attack") or {}).get("adversaries") or [])] = np.nan
    return values


def scores(folders: Mapping[int, Sequence[Path]], rung: int) -> list[Score]:
    """Return the trials of one rung, best first, as :func:`ranked`.

    Args:
        folders: By trial, a run's folder for each seed. A trial with a run that did not finish
            has failed.
        rung: The rung.
    """
    read = {trial: [validated(path) for path in paths] for trial, paths in folders.items()}
    there = {
        trial: [np.concatenate(part) for part in zip(*(one for one in runs if one), strict=True)]
        for trial, runs in read.items()
        if all(one is not None for one in runs)
    }
    default = there[0][0] if 0 in there else None
    found = [_score(trial, rung, there.get(trial), default) for trial in folders]
    return ranked(found)


def ranked(found: Sequence[Score]) -> list[Score]:
    """Return scores, best first.

    A later rung comes first, then a higher accuracy; of equals the one with the smaller loss, then
    the earlier trial.
    """
    good = sorted(
        (score for score in found if not score.failed),
        key=lambda score: (-score.rung, -score.accuracy, score.loss, score.trial),
    )
    return [*good, *sorted((s for s in found if s.failed), key=lambda score: score.trial)]


def _score(trial: int, rung: int, values: Sequence[Array] | None, default: Array | None) -> Score:
    if values is None:
        return Score(trial, rung, np.nan, np.nan, np.nan, np.nan)
    over = error = np.nan
    if default is not None:
        gains = values[0] - default
        gains = gains[np.isfinite(gains)]
        over = float(gains.mean()) if len(gains) else np.nan
        error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else np.nan
    return Score(
        trial, rung, float(np.nanmean(values[0])), float(np.nanmean(values[1])), over, error
    )
