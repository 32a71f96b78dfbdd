"""What a sweep left, as a Python object; and whichever of run and sweep a folder holds."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.api.run import Run, write_report
from experiments.config.process_objects import Objects
from experiments.results import Results, load
from experiments.runs import sweep_plan as plans
from fedfuse.compare import LOCAL
from fedfuse.errors import ConfigError
from fedfuse.files.paths import expand

if TYPE_CHECKING:
    import pandas as pd

    from experiments.api.figures import Plots


class Sweep:
    """A sweep: its folder, and its runs.

    Args:
        folder: The folder of the sweep, or any that holds runs.
        objects: The objects of this process that its configurations name.
        trust: Code of the user's own that they may name.
        errors: What stopped runs, by their number in the sweep.
    """

    def __init__(
        self,
        folder: Path,
        objects: Objects | None = None,
        trust: Iterable[str] = (),
        errors: Mapping[int, Exception] | None = None,
    ) -> None:
        self.folder = folder
        self.errors = dict(errors or {})
        self._objects, self._trust = objects, frozenset(trust)

    @cached_property
    def _results(self) -> Results:
        return load(self.folder)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs that finished."""
        return tuple(Run(run.path, self._objects, self._trust) for run in self._results.runs)

    @property
    def unfinished(self) -> tuple[Path, ...]:
        """The folders of those that did not; ``fedfuse.sweep(resume=sweep.folder)`` goes on."""
        return tuple(run.path for run in self._results.unfinished)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The metrics of all runs, with ``run`` (its folder's name), ``method`` and ``seed``."""
        import pandas as pd

        parts = []
        for run in self.runs:
            rows = run.metrics.copy()
            for place, name in enumerate((run.folder.name, run.method, run.seed)):
                rows.insert(place, ("run", "method", "seed")[place], name)
            parts.append(rows)
        return pd.concat(parts, ignore_index=True)

    def compare(self, moment: str = "last", over: str = LOCAL) -> pd.DataFrame:
        """Return each method's gain over training alone, paired by seed and client.

        Other ways of training alone have rows among the methods, of their gain over the plain one.

        Args:
            moment: ``last`` round, or each arm's round of ``best_validation``.
            over: ``local``, or ``local_adjusted`` where any run has that control.

        Returns:
            A row per method and test; accuracies and gains are shares, 0 to 1. Columns:
            ``method``, ``test``, ``seeds`` (how many), ``gain`` (mean over seeds of the mean over
            clients), ``low`` and ``high`` (its 95% interval; NaN with one seed), ``helped`` and
            ``harmed`` (pairs of seed and client whose gain is beyond their test's error),
            ``compared`` (such pairs in all), ``mean``, ``baseline``, ``worst``, ``lowest_gain``;
            with several federations also ``federation``.

        Raises:
            ConfigError: If there is nothing to compare with.
        """
        from experiments.api.tables import compared

        return compared(self._results.runs, moment, over)

    gain = compare

    def plot(self, *figures: str) -> Plots:
        """Return the report's figures; a notebook shows them.

        Args:
            figures: Names such as ``forest``, ``map``, ``curves``; all if none is named.
        """
        from experiments.api.figures import plots

        return plots(self._results, figures)

    def report(self, path: str | Path | None = None, *, show: bool = False) -> Path:
        """Write the report as one page, and return where.

        Args:
            path: The file; ``report.html`` in the sweep's folder if None.
            show: Whether to open it in a browser.
        """
        return write_report(self.folder, path, show=show)

    def __repr__(self) -> str:
        return f"<sweep of {len(self.runs)} finished runs: {self.folder}>"

    def _repr_html_(self) -> str:
        return f"<p><code>{html.escape(repr(self))}</code></p>"


def load_run(folder: str | Path) -> Run | Sweep:
    """Return what a folder holds: a run, or a sweep or map.

    Args:
        folder: Whoever wrote it, with whichever version; what an old one lacks says so when it is
            asked for.

    Raises:
        ConfigError: If it is neither.
    """
    if not isinstance(folder, str | Path):
        raise ConfigError(
            "fedfuse.load_run takes a folder", got=repr(folder)[:100], allowed="a path"
        )
    path = expand(folder)
    if (path / "run.json").is_file():
        return Run(path)
    if not plans.is_sweep(path):
        load(path)  # says what is wrong with it
    return Sweep(path)
