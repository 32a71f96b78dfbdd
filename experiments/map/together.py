"""Run the cells of a map as one pack: all their clients train together, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments.map.grid import Cell
from experiments.pack.turns import PackedRun, take_turns
from experiments.runs.lifecycle import Run
from experiments.runs.packed import InTraining, perform_in_turns, raise_first_error
from experiments.runs.pool import Event
from experiments.runs.worker import failure, run_job
from fedfuse.train.joint import Joint
from server.reporters.protocol import Reporter


@dataclass(frozen=True, slots=True)
class Together:
    """What :class:`~experiments.runs.pool.Pool` does in processes, as one job on one device.

    Args:
        log: Where tracebacks go.
        job: A cell to what running it needs.
    """

    log: Path
    job: Callable[[Cell], Mapping[str, Any]]

    def run(self, cells: Sequence[Cell]) -> Iterator[Event[Cell]]:
        """Run the cells and yield what happens to them."""
        events: deque[Event[Cell]] = deque()
        in_training = InTraining()
        with self.log.open("a", encoding="utf-8") as log:

            def task(cell: Cell, member: PackedRun) -> None:
                def tell(kind: str, **said: Any) -> None:
                    events.append(Event(cell, kind, failure(said) if said else None))

                def perform(run: Run, reporters: Sequence[Reporter]) -> None:
                    perform_in_turns(run, member, in_training, reporters)

                tell("started")
                run_job(self.job(cell), tell, perform, log)

            members = [PackedRun(n, partial(task, cell)) for n, cell in enumerate(cells)]
            for _ in take_turns(members, Joint()):
                while events:
                    yield events.popleft()
        yield from events
        raise_first_error(members)
