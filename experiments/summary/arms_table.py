"""The closing table of a run with several ways of training alone: an arm a row, a test a side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from experiments.summary.arm_rows import TESTS
from experiments.summary.controls import Control
from experiments.summary.moments import Figures, Moment
from experiments.summary.summary import Summary
from experiments.terminal.literal import literal
from fedfuse.compare import POST_HOC
from fedfuse.safe_text import visible
from server.reporters.figures import percent, points

LONGEST, SHORT = 18, 9
"""Characters that are shown of an arm's name in its row, and above a column."""

LEGEND = (
    "own: tests with the client's own mix of classes; balanced: one test set for all\n"
    "local_adjusted: trains alone too, freed of its client's mix of classes, which is\n"
    "added back for the own test; post hoc: local, freed only when it is tested\n"
    "mean: over the clients; beside a gain helped/harmed: clients whose gain or loss\n"
    "is larger than their test's error"
)
"""What rows and columns are."""


@dataclass(frozen=True, slots=True)
class _Row:
    """An arm at a moment: per control its figures with the gain over it; None for no gain."""

    name: str
    against: tuple[Moment | None, ...]

    def figures(self, test: str) -> Figures | None:
        """Return the figures, whatever their gain is over."""
        return next((m.tests[test] for m in self.against if m and test in m.tests), None)

    def cells(self, test: str) -> list[Text]:
        """Return the mean, and a gain per control."""
        found = self.figures(test)
        return [
            Text(percent(found.mean if found else None).strip()),
            *(_gain(m.tests.get(test)) if m else Text() for m in self.against),
        ]


def fill(table: Table, summary: Summary) -> None:
    """Fill an empty table with the arms of a run that has several controls."""
    table.add_column("\narm", no_wrap=True)
    for name in ("own", "balanced"):
        table.add_column(f"{name}\nmean", justify="right")
        for control in summary.controls:
            over = short(control.name.removeprefix("local_"), SHORT)
            table.add_column(literal(f"gain over\n{over}"), justify="right")
    rows = list(_rows(summary, lambda c: c.last, lambda c: c.against_last))
    rows[1:1] = _post_hoc(summary, rows[0])
    if any(control.against_unguarded for control in summary.controls):
        unguarded = tuple(control.against_unguarded for control in summary.controls)
        rows.append(_Row("  unguarded", unguarded))
    best = list(_rows(summary, lambda c: c.best_validation, lambda c: c.against_best))
    for label, found in (("", rows), ("best validation", best if summary.best_validation else [])):
        if label and found:
            table.add_section()
            table.add_row(Text(label, style="dim"))
        for row in found:
            cells = [cell for test in TESTS for cell in row.cells(test)]
            table.add_row(literal(short(row.name, LONGEST)), *cells)


def legend(summary: Summary) -> str:
    """Return what the table's rows and columns are, and what it has no room for."""
    rows = list(_rows(summary, lambda c: c.last, lambda c: c.against_last))
    worst = {
        word: [percent(found.worst).strip() for row in rows if (found := row.figures(test))]
        for word, test in zip(("own", "balanced"), TESTS, strict=True)
    }
    told = "; ".join(f"{word} {', '.join(found)}" for word, found in worst.items() if found)
    lines = [LEGEND, f"worst client of each arm: {told}"]
    if summary.last is not None:
        tested = " and ".join(map(tested_on, summary.last.tests.values()))
        lines.append(f"round {summary.last.round}; tests of {tested} samples")
    chosen = [c.best_validation for c in summary.controls] + [summary.best_validation]
    if rounds := [str(moment.round) for moment in chosen if moment is not None]:
        lines[-1] += f"; best validation: round {', '.join(rounds)}"
    return "\n".join(lines)


def tested_on(figures: Figures) -> str:
    """Return how many samples a client is tested on, from the fewest to the most."""
    low, high = figures.smallest_test, figures.largest_test
    return "-" if low is None else str(low) if low == high else f"{low}-{high}"


def _rows(
    summary: Summary,
    alone: Callable[[Control], Moment | None],
    against: Callable[[Control], Moment | None],
) -> Iterator[_Row]:
    """Yield the controls, which gain over the first of them, and then the method."""
    nothing = (None,) * (len(summary.controls) - 1)
    for control in summary.controls:
        yield _Row(control.name, (alone(control), *nothing))
    yield _Row(summary.method, tuple(map(against, summary.controls)))


def _post_hoc(summary: Summary, plain: _Row) -> Iterator[_Row]:
    """Yield plain local training corrected when it is tested; at home that is itself."""
    at = summary.controls[0].last
    if at is not None and summary.post_hoc is not None:
        tests = {**at.tests, "accuracy_global": summary.post_hoc}
        yield _Row(POST_HOC, (replace(at, tests=tests), *plain.against[1:]))


def _gain(found: Figures | None) -> Text:
    """Return a gain and whom it helps and harms, in colour if the tests can tell."""
    if found is None or found.gain is None:
        return Text()
    shown = points(found.gain).strip()
    counts = "" if found.helped is None else f" {found.helped}/{found.harmed}"
    judged = "" if found.too_small else {"+": "bold green", "-": "bold red"}.get(shown[0], "")
    return Text(f"{shown}{counts}", style=judged)


def short(name: str, longest: int = 7) -> str:
    """Return a name, cut to so many characters."""
    name = visible(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
