"""What a run or a sweep ends with, in words that claim no more than their numbers allow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.results import (
    TESTS,
    Moment,
    RunGroup,
    comparisons,
    load,
    run_groups,
    share_undone,
)
from experiments.terminal.literal import literal
from fedfuse.compare import ENOUGH, Comparison, Interval, ranking, signed, verdict
from fedfuse.errors import ConfigError

SHORT = {"accuracy_own": "own", "accuracy_global": "balanced"}
LABELS = {"accuracy_own": "Own distribution", "accuracy_global": "Balanced test set"}


def verdicts(folder: Path, console: Console) -> None:
    """Print the verdict of a finished run on both test protocols; nothing without a baseline."""
    for run_group in run_groups(load(folder).runs):
        tests = {test: comparisons(run_group, test) for test in TESTS}
        if any(tests.values()):
            console.print(literal(_ranking(tests)))
        _say(tests, console)


def table(folder: Path, console: Console) -> None:
    """Print what the finished runs of a sweep say together: a table and verdicts over the seeds.

    Runs that did not finish are named and left out. A sweep that holds nothing to compare prints
    nothing.
    """
    try:
        results = load(folder)
        found = run_groups(results.runs)
    except ConfigError as error:  # the runs are done and on disk: never a failure of the sweep
        console.print(literal(f"\nno comparison: {error}"), soft_wrap=True)
        return
    for run_group in found:
        tests = {test: comparisons(run_group, test) for test in TESTS}
        best = {test: comparisons(run_group, test, Moment.BEST_VALIDATION) for test in TESTS}
        if not any(tests.values()):
            continue
        console.print()
        console.print(literal(_ranking(tests)))
        console.print(Text("\ngain over local training, points", "bold"), end="")
        console.print(literal(f"; {run_group.label}" if run_group.label else ""), soft_wrap=True)
        console.print(_gains(tests, best))
        if (changes := _changes(run_group, tests)) is not None:
            console.print()
            console.print(changes)
        _say(tests, console)
    for note in results.notes():
        console.print(literal(note), soft_wrap=True)


def _ranking(tests: Mapping[str, Mapping[str, Comparison]]) -> str:
    return ranking({words: tests[test] for test, words in TESTS.items()})


def _say(tests: Mapping[str, Mapping[str, Comparison]], console: Console) -> None:
    for test, label in LABELS.items():
        for method, found in tests[test].items():
            console.print(literal(f"{label}: {verdict(found, method)}"))


def _gains(last: dict[str, dict[str, Comparison]], best: dict[str, dict[str, Comparison]]) -> Table:
    """Return a line per method and test: the gain with its interval, at both moments."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("method", max_width=18, overflow="fold")
    shown.add_column("test set", no_wrap=True)
    shown.add_column("seeds", justify="right")
    shown.add_column("last round", justify="right", no_wrap=True)
    shown.add_column("best validation", justify="right", no_wrap=True)
    shown.add_column("helped\n/harmed", justify="right", no_wrap=True)
    methods = dict.fromkeys(name for found in last.values() for name in found)
    for method in methods:
        for test, found in last.items():
            if method in found:
                line = found[method]
                shown.add_row(
                    literal(method),
                    SHORT[test],
                    str(len(line.seeds)),
                    _gain(line),
                    _gain(best[test].get(method)),
                    f"{line.helped}/{line.harmed} of {line.compared}" if line.judged else "-",
                )
    return shown


def _changes(run_group: RunGroup, last: dict[str, dict[str, Comparison]]) -> Table | None:
    """Return what the mean hides, a line per method and test; None where nothing is on record.

    Which test answers flipped between local training and the method, how its calibration error
    changed, and how much a guard undid.
    """
    lines = []
    methods = dict.fromkeys(name for found in last.values() for name in found)
    for method in methods:
        undone = share_undone(run_group.methods[method])
        for test, found in last.items():
            line = found.get(method)
            if line is None or line.flips is None or line.calibration is None:
                continue
            error = line.calibration
            bounds = f" {bounds_of(error.interval)}" if error.interval is not None else ""
            lines.append(
                (
                    method,
                    SHORT[test],
                    f"{100 * line.flips.newly_right:.1f} / {100 * line.flips.newly_wrong:.1f}",
                    f"{100 * error.baseline_mean:.1f}",
                    signed(error.mean) + bounds,
                    "-" if undone is None else f"{100 * undone:.0f}%",
                )
            )
    if not lines:
        return None
    guarded = any(line[-1] != "-" for line in lines)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
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
