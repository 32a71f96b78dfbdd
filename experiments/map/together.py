"""Run the cells of a map as one pack: all their clients train together, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig

from experiments.map.grid import Cell
from experiments.map.pool import Event
from experiments.map.worker import run_cell
from experiments.pack.shelf import Claims
from experiments.pack.sweep import train_one
from experiments.pack.turns import Run, take_turns
from experiments.runs.baselines import Shelf
from experiments.summary.summary import Summary
from fedfuse.train.joint import Joint
from server.reporters.folder import RunFolder
from server.reporters.protocol import Reporter


@dataclass(frozen=True, slots=True)
class Together:
    """What :class:`~experiments.map.pool.Pool` does in processes, as one job on one device.

    Args:
        log: Where tracebacks go.
        job: A cell to what running it needs.
    """

    log: Path
    job: Callable[[Cell], Mapping[str, Any]]

    def run(self, cells: Sequence[Cell]) -> Iterator[Event]:
        """Run the cells and yield what happens to them."""
        events: deque[Event] = deque()
        claims = Claims()
        with self.log.open("a", encoding="utf-8") as log:
            runs = [
                Run(number, partial(self._cell, cell, events=events, claims=claims, log=log))
                for number, cell in enumerate(cells)
            ]
            for _ in take_turns(runs, Joint()):
                while events:
                    yield events.popleft()
        yield from events
        for run in runs:
            if run.error is not None:
                raise run.error

    def _cell(
        self, cell: Cell, run: Run, *, events: deque[Event], claims: Claims, log: TextIO
    ) -> None:
        def tell(kind: str, error: str = "", **_: Any) -> None:
            events.append(Event(cell, kind, error))

        def perform(
            cfg: DictConfig, folder: RunFolder, reporter: Reporter, shared: Path
        ) -> Summary:
            return train_one(cfg, folder, reporter, run, claims, Shelf(shared))

        tell("started")
        run_cell(dict(self.job(cell)), tell, perform, log)
