"""Run the trials of a tuning, rung by rung, and show how they rank."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from experiments.runs.display import Display, Remaining, Terminal
from experiments.runs.sweep import Each, Sweep, perform_sweep
from experiments.runs.sweep_plan import FOLDER
from experiments.terminal.literal import literal
from experiments.terminal.tables import new_table
from experiments.tune.ranking import Score, ranked, scores, validated
from experiments.tune.study import Study, Tuned, survivors
from experiments.tune.winner import write
from fedfuse.errors import FedfuseError

if TYPE_CHECKING:
    from experiments.runs.lifecycle import Outcome, Run
    from server.reporters.protocol import Reporter

WIDTH = 80


class _Trials(Terminal):
    """Show trials while they run; what they come to is a table at the end, of all of them."""

    def reporters(self, remaining: Remaining | None = None) -> list[Reporter]:  # noqa: ARG002
        """Return nobody: whoever watches a run shows its tests."""
        return []

    def finished(self, run: Run, outcome: Outcome) -> None:  # noqa: ARG002
        """Show what a trial's clients answered on their validation data."""
        if (found := validated(run.folder.path)) is not None:
            self.say(f"  validation {100 * np.nanmean(found[0]):.1f} %")

    @contextmanager
    def together(self) -> Iterator[Display]:
        """Return itself."""
        yield self

    def closed(self, path: Path, broken: int, total: int) -> None:
        """Show nothing yet."""


def perform(study: Study, sweep: Sweep, each: Each | None = None) -> int:
    """Run what has not finished, write down who won, and return how many trials failed.

    Args:
        study: What was asked for.
        sweep: All its runs.
        each: Performs its runs, if not one after the other.

    Raises:
        FedfuseError: If of a method no trial finished.
    """
    display = _Trials()
    at = dict(zip(study.places(), range(len(sweep.planned)), strict=True))
    found: dict[str, list[Score]] = {one.method: [] for one in study.tuned}
    alive = {one.method: list(range(len(one.trials))) for one in study.tuned}
    for rung in range(max(len(one.rounds) for one in study.tuned)):
        there = [one for one in study.tuned if rung < len(one.rounds)]
        runs = {
            one.method: {
                trial: [at[one.method, rung, trial, seed] for seed in study.seeds]
                for trial in alive[one.method]
            }
            for one in there
        }
        numbers = [n for trials in runs.values() for of in trials.values() for n in of]
        _run(sweep, numbers, display, each)
        for one in there:
            folders = {
                trial: [sweep.path / sweep.planned[n].folder for n in numbers]
                for trial, numbers in runs[one.method].items()
            }
            found[one.method] += scores(folders, rung)
            good = [
                score.trial
                for score in found[one.method]
                if score.rung == rung and not score.failed
            ]
            alive[one.method] = survivors(good)
    return sum(_close(study, one, found[one.method], sweep.path, display) for one in study.tuned)


def _run(sweep: Sweep, numbers: Sequence[int], display: Terminal, each: Each | None) -> None:
    """Run those of a sweep's runs that have not finished."""
    part = replace(
        sweep,
        planned=[sweep.planned[number] for number in numbers],
        configs=[sweep.configs[number] for number in numbers],
    )
    if part.unfinished():
        perform_sweep(part, display, each)


def _close(
    study: Study, tuned: Tuned, found: Sequence[Score], path: Path, display: Terminal
) -> int:
    """Show and write down how the trials of a method rank; return how many failed."""
    best: dict[int, Score] = {}
    for score in found:
        best[score.trial] = score if not score.failed else best.get(score.trial, score)
    order = ranked(list(best.values()))
    failed = sum(score.failed for score in found)
    if all(score.failed for score in order):
        kept = any(file.is_dir() and file.name != FOLDER for file in path.iterdir())
        again = (
            f"then: fedfuse tune resume={shlex.quote(str(path))}" if kept else "and begin again."
        )
        raise FedfuseError(
            f"no trial of method={tuned.method} finished.",
            next_step=f"Mend what stopped them, {again}",
        )
    display.say("")
    display.console.print(_table(study, tuned, order), width=WIDTH)
    write(study, tuned, order, path)
    name = shlex.quote(str(path))
    display.say(f"settings that won: {path}/{tuned.method}.yaml (all trials: {tuned.method}.csv)")
    display.say(f"run it: fedfuse --config-file {name}/{tuned.method}.yaml")
    if failed:
        display.say(f"{failed} trials failed; once mended: fedfuse tune resume={name}")
    return failed


def _table(study: Study, tuned: Tuned, order: Sequence[Score]) -> Table:
    """Return the trials, best first, in at most 80 columns."""
    rounds = " then ".join(map(str, tuned.rounds))
    seeds = ", ".join(map(str, study.seeds))
    title = (
        f"{tuned.method}: validation accuracy in % of {len(tuned.trials)} trials, "
        f"{rounds} rounds, seed {seeds}"
    )
    table = new_table(title)
    halved = len(tuned.rounds) > 1
    names = ["rank", "trial", *(["rounds"] if halved else []), "accuracy", "over own", "loss"]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for rank, score in enumerate(order, 1):
        cells = [str(rank), str(score.trial), *([str(tuned.rounds[score.rung])] if halved else [])]
        if score.failed:
            cells += ["failed", "", ""]
        else:
            over = (
                ""
                if score.trial == 0
                else f"{100 * score.over_default:+.1f} ±{100 * score.error:.1f}"
            )
            cells += [f"{100 * score.accuracy:.1f}", over.replace("nan", "?"), f"{score.loss:.3f}"]
        setting = " ".join(f"{key}={value}" for key, value in tuned.trials[score.trial].items())
        told = f"{setting} (its own)" if score.trial == 0 else setting
        table.add_row(*map(literal, [*cells, told]))
    return table
