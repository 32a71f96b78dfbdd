"""What a run or a sweep ends with, in words that claim no more than their numbers allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.results import (
    SHORT,
    TESTS,
    Compared,
    Moment,
    compared,
    load,
    run_groups,
    to_tell,
    with_prior,
)
from experiments.terminal.literal import literal
from experiments.terminal.tables import new_table
from fedfuse.compare import (
    CONTROLS,
    ENOUGH,
    LOCAL,
    Comparison,
    Interval,
    ranking,
    signed,
)
from fedfuse.errors import ConfigError

LABELS = {"accuracy_own": "Own distribution", "accuracy_global": "Balanced test set"}
ABOUT_PRIOR = (
    "local_adjusted: trained alone too, freed of each client's label prior, which is\n"
    "added back on the own distribution; post hoc: local, freed only when tested"
)
"""What ways of training alone are that are not the plain one, in lines of a terminal."""


def verdicts(folder: Path, console: Console) -> None:
    """Print the verdict of a finished run on both test protocols; nothing without a control."""
    for run_group in run_groups(load(folder).runs):
        # Which method is best need not be said of one: its own sentences have it all.
        _say(compared(run_group), console)


def table(folder: Path, console: Console) -> None:
    """Print what the finished runs of a sweep say together: tables and verdicts over the seeds.

    There is a table of gains for each control. Runs that did not finish are named and left out. A
    sweep that holds nothing to compare prints nothing.
    """
    try:
        results = load(folder)
        found = run_groups(results.runs)
    except ConfigError as error:  # the runs are done and on disk: never a failure of the sweep
        console.print(literal(f"\nno comparison: {error}"), soft_wrap=True)
        return
    for run_group in found:
        done = compared(run_group)
        best = compared(run_group, Moment.BEST_VALIDATION)
        if not done:
            continue
        console.print()
        console.print(literal(_ranking(done)))
        for over in dict.fromkeys(item.over for item in done):
            last, chosen = ([i for i in items if i.over == over] for items in (done, best))
            seeds = {len(item.found.seeds) for item in last}
            # Long names need the room of a column that says the same everywhere.
            once = max(seeds) if with_prior(done) and len(seeds) == 1 else 0
            console.print(Text(f"\ngain over {CONTROLS[over]}, points", "bold"), end="")
            told = f" over {once} seed{'s' * (once > 1)}" if once else ""
            told += f"; {run_group.label}" if run_group.label else ""
            console.print(literal(told), soft_wrap=True)
            console.print(_gains(last, chosen, seeds=not once))
        if (changes := _changes(done)) is not None:
            console.print()
            console.print(changes)
        if with_prior(done):
            console.print(Text(ABOUT_PRIOR, "dim"))
        _say(done, console)
    for note in results.notes():
        console.print(literal(note), soft_wrap=True)


def _ranking(done: Sequence[Compared]) -> str:
    return ranking(
        {
            words: {i.method: i.found for i in done if (i.test, i.over) == (test, LOCAL)}
            for test, words in TESTS.items()
        }
    )


def _say(done: Sequence[Compared], console: Console) -> None:
    told = to_tell(done)
    for test, label in LABELS.items():
        for item in told:
            if item.test == test:
                console.print(literal(f"{label}: {item.sentence()}"))


def _gains(last: Sequence[Compared], best: Sequence[Compared], *, seeds: bool) -> Table:
    """Return a line per method and test: the gain with its interval, at both moments."""
    shown = new_table(narrow=True)
    shown.add_column("method", max_width=18, overflow="fold")
    shown.add_column("test set", no_wrap=True)
    if seeds:
        shown.add_column("seeds", justify="right")
    shown.add_column("last round", justify="right", no_wrap=True)
    shown.add_column("best validation", justify="right", no_wrap=True)
    shown.add_column("helped\n/harmed", justify="right", no_wrap=True)
    chosen = {(item.method, item.test): item.found for item in best}
    for item in last:
        line = item.found
        shown.add_row(
            literal(item.method),
            SHORT[item.test],
            *([str(len(line.seeds))] if seeds else []),
            _gain(line),
            _gain(chosen.get((item.method, item.test))),
            f"{line.helped}/{line.harmed} of {line.compared}" if line.judged else "-",
        )
    return shown


def _changes(done: Sequence[Compared]) -> Table | None:
    """Return what the mean hides, a line per method and test; None where nothing is on record.

    Which test answers flipped between local training and the method, how its calibration error
    changed, and how much a guard undid.
    """
    lines = []
    for item in done:
        line = item.found
        if item.over != LOCAL or line.flips is None or line.calibration is None:
            continue
        error = line.calibration
        bounds = f" {bounds_of(error.interval)}" if error.interval is not None else ""
        lines.append(
            (
                item.method,
                SHORT[item.test],
                f"{100 * line.flips.newly_right:.1f} / {100 * line.flips.newly_wrong:.1f}",
                f"{100 * error.baseline_mean:.1f}",
                signed(error.mean) + bounds,
                "-" if item.undone is None else f"{100 * item.undone:.0f}%",
            )
        )
    if not lines:
        return None
    guarded = any(line[-1] != "-" for line in lines)
    shown = new_table(narrow=True)
    shown.add_column("method", max_width=18, overflow="fold")
    shown.add_column("test set", no_wrap=True)
    shown.add_column("newly right\n/ wrong, %", justify="right", no_wrap=True)
    shown.add_column("calibration\nerror, local", justify="right")
    shown.add_column("change of it,\npoints", justify="right", no_wrap=True)
    if guarded:
        shown.add_column("guard\nundid", justify="right")
    for cells in lines:
        shown.add_row(*map(literal, cells if guarded else cells[:-1]))
    return shown


def _gain(found: Comparison | None) -> Text:
    """Return a gain and its interval; in colour only if the interval excludes 0."""
    if found is None:
        return Text("-")
    text = signed(found.mean)
    if not found.speaks:
        return Text(f"{text} (tests < {ENOUGH})")
    if found.interval is not None:
        text += f" {bounds_of(found.interval)}"
    style = ("bold green" if found.mean > 0 else "bold red") if found.significant else ""
    return Text(text, style)


def bounds_of(interval: Interval) -> str:
    """Return an interval in points."""
    return f"[{signed(interval.low)}, {signed(interval.high)}]"
