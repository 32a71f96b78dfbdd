"""What a person sees of runs: nothing, or how far they are and what they came to."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from rich.console import Console

from experiments.pack.screen import Screen, Watcher
from experiments.runs.failures import Expected, tell
from experiments.runs.lifecycle import Outcome, Run, again, perform
from experiments.summary import comparison, table
from fedfuse.safe_text import visible
from server.reporters.lines import Lines
from server.reporters.panel import Panel
from server.reporters.protocol import Reporter

Remaining = Callable[[float], str]
"""A run's own seconds to what is shown of the sweep that it belongs to."""


class Display(Protocol):
    """Where runs are shown."""

    def say(self, line: str) -> None:
        """Show a line about the sweep."""
        ...

    def reporters(self, remaining: Remaining | None = None) -> list[Reporter]:
        """Return what shows a run while it lasts."""
        ...

    def finished(self, run: Run, outcome: Outcome) -> None:
        """Show what a run came to."""
        ...

    def failed(self, number: int, error: Expected) -> None:
        """Show what stopped a run of a sweep."""
        ...

    def together(self) -> AbstractContextManager[Display]:
        """Return what shows several runs at the same time."""
        ...

    def closed(self, path: Path, broken: int, total: int) -> None:
        """Show what the runs of a sweep say together, and how many did not finish."""
        ...


class Silent:
    """Show nothing.

    Args:
        reporters: Makes whoever watches a run all the same.
    """

    def __init__(self, reporters: Callable[[], list[Reporter]] = list) -> None:
        self._reporters = reporters

    def say(self, line: str) -> None:
        """Show nothing."""

    def reporters(self, remaining: Remaining | None = None) -> list[Reporter]:  # noqa: ARG002
        """Return whoever watches."""
        return self._reporters()

    def finished(self, run: Run, outcome: Outcome) -> None:
        """Show nothing."""

    def failed(self, number: int, error: Expected) -> None:
        """Show nothing; the caller is told of it."""

    def together(self) -> AbstractContextManager[Display]:
        """Return itself."""
        return nullcontext(self)

    def closed(self, path: Path, broken: int, total: int) -> None:
        """Show nothing."""


class Terminal:
    """Show runs as a panel or in lines, and what they came to as tables."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.exit_code = 0
        """The highest of the runs that failed."""

    def say(self, line: str) -> None:
        """Print a line."""
        sys.stdout.write(f"{visible(line, None)}\n")
        sys.stdout.flush()

    def reporters(self, remaining: Remaining | None = None) -> list[Reporter]:
        """Return a panel where there is a terminal, else plain lines."""
        live = self.console.is_terminal and not self.console.is_dumb_terminal
        return [Panel(self.console, remaining or (lambda _: ""))] if live else [Lines()]

    def finished(self, run: Run, outcome: Outcome) -> None:
        """Print the tables."""
        outcome.absences.render(self.console)
        table.render(outcome.summary, self.console, run.folder.path)
        comparison.verdicts(run.folder.path, self.console)

    def failed(self, number: int, error: Expected) -> None:  # noqa: ARG002
        """Print what stopped a run."""
        self.exit_code = max(self.exit_code, tell(error))

    @contextmanager
    def together(self) -> Iterator[Display]:
        """Print a line per round of all runs."""
        screen = Screen()
        try:
            yield _Together(self, screen)
        finally:
            screen.flush()

    def closed(self, path: Path, broken: int, total: int) -> None:
        """Print the table over the seeds, where everything is, and how to go on."""
        comparison.table(path, self.console)
        self.say(f"sweep folder: {path}")
        self.say(f"as a page: {shlex.join(['fedfuse-report', str(path)])}")
        if broken:
            self.say(f"{broken} of {total} runs did not finish: {again(path)}")


class _Together(Terminal):
    """Show runs that train together: a line per round of all of them, no tables of their own.

    Args:
        owner: What shows the sweep.
        screen: Where the lines are collected.
    """

    def __init__(self, owner: Terminal, screen: Screen) -> None:
        super().__init__()
        self._owner, self._screen = owner, screen

    def reporters(self, remaining: Remaining | None = None) -> list[Reporter]:  # noqa: ARG002
        """Return what tells the common screen of one run."""
        return [Watcher(self._screen)]

    def finished(self, run: Run, outcome: Outcome) -> None:
        """Print who was missing."""
        if outcome.absences.rows:
            self._screen.say(f"run {run.number + 1}:")
            outcome.absences.render(self.console)

    def failed(self, number: int, error: Expected) -> None:
        """Print which run has stopped, and what stopped it."""
        self._screen.flush()
        sys.stderr.write(f"run {number + 1} has stopped:\n")
        self._owner.failed(number, error)


def show(run: Run, display: Display, remaining: Remaining | None = None) -> Outcome:
    """Perform a run where it can be seen."""
    outcome = perform(run, display.reporters(remaining))
    display.finished(run, outcome)
    return outcome
