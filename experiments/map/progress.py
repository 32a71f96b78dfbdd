"""How far a map is, and how long the rest will take, as far as that can be known."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from time import monotonic
from typing import TextIO

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from experiments.map.grid import Cell
from experiments.runs.effort import effort
from experiments.runs.pool import Event
from fedfuse.compare import LOCAL
from fedfuse.safe_text import visible
from server.reporters.figures import clock


def work(cell: Cell, cfg: DictConfig) -> float:
    """Return how much a cell computes; its baseline is a cell of its own."""
    return effort(cfg, cell.samples, fuses=cell.method != LOCAL)


class Estimate:
    """The time left, from how long the work done so far took.

    Args:
        configs: The cells that are to be run.
        workers: How many run side by side.
        now: Seconds, from any origin.
    """

    def __init__(self, configs: Mapping[Cell, DictConfig], workers: int) -> None:
        self._work = {cell: work(cell, cfg) for cell, cfg in configs.items()}
        self._rounds = {cell: int(cfg.num_rounds) for cell, cfg in configs.items()}
        self._workers = workers
        self._done = 0.0
        self._started: dict[Cell, float] = {}
        self._ticks: dict[Cell, int] = {}
        self._spent = 0.0

    def take(self, event: Event[Cell], now: float) -> None:
        """Learn from an event."""
        if event.kind == "start":  # its data is there; the start of its process is no part of it
            self._started[event.task] = now
        elif event.kind == "round":
            self._ticks[event.task] = self._ticks.get(event.task, 0) + 1
        elif event.kind in ("done", "failed"):
            begun = self._started.pop(event.task, None)
            self._ticks.pop(event.task, None)
            amount = self._work.pop(event.task, 0.0)
            if begun is not None and event.kind == "done":
                self._done += amount
                self._spent += now - begun

    def left(self, now: float) -> float | None:
        """Return the seconds left; None until something is known.

        A cell under way counts with its finished rounds only.
        """
        partly = {
            cell: self._work[cell] * min(1.0, self._ticks.get(cell, 0) / self._rounds[cell])
            for cell in self._started
        }
        spent = self._spent
        spent += sum(now - self._started[c] for c, amount in partly.items() if amount > 0)
        done = self._done + sum(partly.values())
        if done == 0 or spent == 0:
            return None
        open_ = sum(self._work.values()) - sum(partly.values())
        # The last cells leave workers idle, so at least the longest of them is still to come.
        longest = max(
            (amount - partly.get(cell, 0.0) for cell, amount in self._work.items()), default=0.0
        )
        return max(open_ / self._workers, longest) * spent / done


class Watch(AbstractContextManager["Watch"]):
    """Show the progress: a bar at a terminal, else a line for each cell that ends.

    Args:
        total: Cells of the whole map.
        done: Those that were finished before.
        estimate: The time left.
        console: Where; lines go to standard output.
    """

    def __init__(self, total: int, done: int, estimate: Estimate, console: Console) -> None:
        self._total, self._done, self._failed = total, done, 0
        self._estimate = estimate
        self._begun = monotonic()
        self._stream: TextIO = sys.stdout
        self._bar: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._bar = Progress(
                TextColumn("map"),
                BarColumn(bar_width=None),
                TextColumn("{task.completed:.0f} of {task.total:.0f} cells{task.fields[after]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("map", total=total, completed=done, after="")

    def __enter__(self) -> Watch:
        """Show the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()

    def take(self, event: Event[Cell]) -> None:
        """Show what happened."""
        now = monotonic()
        self._estimate.take(event, now)
        after = self._after(now)
        if event.kind in ("done", "failed"):
            self._done += event.kind == "done"
            self._failed += event.kind == "failed"
            if event.kind == "failed":
                self._say(f"failed: {event.task.name}: {event.error}")
            elif self._bar is None:
                self._say(f"{self._done:>4} of {self._total}  {event.task.name}{after}")
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, after=after)

    def _after(self, now: float) -> str:
        left = self._estimate.left(now)
        text = f", {clock(now - self._begun)}"
        if self._failed:
            text = f", {self._failed} failed{text}"
        return text if left is None else f"{text}, about {clock(left)} left"

    def _say(self, line: str) -> None:
        line = visible(line, None, lines=True)
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._stream.write(f"{line}\n")
            self._stream.flush()
