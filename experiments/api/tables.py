"""The numbers of runs as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.results import TESTS, Moment, comparisons, controls, run_groups
from experiments.results import Run as Files
from experiments.results.arms import read_table
from experiments.results.runs import CONTROL_FILES, reading
from fedfuse.compare import CONTROLS, LOCAL, Comparison
from fedfuse.errors import ConfigError

METRICS = ["arm", "round", "client_id", "phase", "metric", "value"]
COMPARED = [
    *("method", "test", "seeds", "gain", "low", "high", "helped", "harmed", "compared"),
    *("mean", "baseline", "worst", "lowest_gain"),
]


def metrics(run: Files) -> pd.DataFrame:
    """Return every number that a run measured: the method's rows, then those of its controls.

    Columns: ``arm``, ``round`` (from 1), ``client_id`` (-1: the federation as a whole), ``phase``,
    ``metric``, ``value``.
    """
    parts = []
    controls = [(name, arm) for arm, name in CONTROL_FILES.items()]
    for name, arm in (("metrics.parquet", run.method), *controls):
        if (run.path / name).is_file():
            with reading(run.path):
                rows = read_table(run.path / name, METRICS[1:]).to_pandas()
            rows.insert(0, "arm", arm)
            parts.append(rows)
    if not parts:
        raise ConfigError(
            f"the run in '{run.path}' has measured nothing yet",
            got=f"status {run.record.get('status')}",
            next_step=f"Go on with it: fedfuse.simulate(resume='{run.path}').",
        )
    return pd.concat(parts, ignore_index=True)


def compared(runs: Sequence[Files], moment: str = "last", over: str = LOCAL) -> pd.DataFrame:
    """Return each method's gain over a control, a row per federation, method and test.

    Accuracies and gains are shares, 0 to 1. Columns: ``method``, ``test``, ``seeds`` (how many),
    ``gain`` (mean over seeds of the mean over clients), ``low`` and ``high`` (its 95% interval;
    NaN with one seed), ``helped`` and ``harmed`` (pairs of seed and client whose gain is beyond
    their test's error; NA where that cannot be told), ``compared`` (such pairs in all), ``mean``,
    ``baseline`` and ``worst`` (accuracy of the method, of the control, and of the client that is
    worst with the method), ``lowest_gain`` (the most that a client lost). Where runs are of
    several federations, ``federation`` says which.

    Args:
        runs: Finished runs.
        moment: ``last`` (round) or ``best_validation``.
        over: The control, a key of :data:`fedfuse.compare.CONTROLS`.

    Raises:
        ConfigError: If there is nothing to compare with.
    """
    when = {"last": Moment.LAST, "best_validation": Moment.BEST_VALIDATION}.get(moment)
    if when is None:
        raise ConfigError(
            "moment is not valid", got=repr(moment), allowed="'last' or 'best_validation'"
        )
    groups = run_groups(runs)
    there = [name for name in CONTROLS if any(name in controls(group) for group in groups)]
    if over not in (*there, LOCAL):
        raise ConfigError(
            f"nothing here is compared with {over!r}",
            got=f"over={over!r}",
            allowed=" or ".join(map(repr, there)) or "a run that trained clients alone",
            next_step="The control local_adjusted is an arm of methods that use the label prior, "
            "such as method=knfu_adjusted; else add method=local_adjusted to a sweep.",
        )
    found = [
        {"federation": group.label, **_row(method, test, comparison)}
        for group in groups
        for test in TESTS
        for method, comparison in comparisons(group, test, when, over).items()
    ]
    if not found:
        raise ConfigError(
            f"there is no {CONTROLS[over]} to compare with",
            got=", ".join(dict.fromkeys(run.method for run in runs)),
            next_step=f"Run with baseline=local, or add method={over} to the sweep.",
        )
    table = pd.DataFrame(found)
    several = table["federation"].nunique() > 1
    columns = ["federation", *COMPARED] if several else COMPARED
    return table[columns].astype({"helped": "Int64", "harmed": "Int64"})


def _row(method: str, test: str, found: Comparison) -> dict[str, Any]:
    interval = found.interval
    nan = float("nan")
    return {
        "method": method,
        "test": test,
        "seeds": len(found.seeds),
        "gain": found.mean,
        "low": nan if interval is None else interval.low,
        "high": nan if interval is None else interval.high,
        "helped": found.helped if found.judged else None,
        "harmed": found.harmed if found.judged else None,
        "compared": found.compared,
        "mean": found.method_mean,
        "baseline": found.baseline_mean,
        "worst": found.worst,
        "lowest_gain": found.lowest_gain,
    }
