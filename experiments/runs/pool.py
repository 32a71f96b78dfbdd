"""Runs side by side: worker processes that stay and are given one run after the other.

A task is whatever its owner calls a run by: a number in a sweep, a cell of a map. What a worker is
told of it is a sweep of this one run (:meth:`experiments.runs.sweep.Sweep.job`).
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, Generic, TypeVar

from experiments.engines.processes import descendants, end, uninterrupted
from experiments.runs.failures import Expected
from experiments.runs.worker import failure
from fedfuse.errors import FedfuseError

Task = TypeVar("Task", bound=Hashable)

CODE = "import experiments.engines.own_process; from experiments.runs.worker import main; main()"
"""What a worker runs; -m would put the working folder before everything installed."""


@dataclass(frozen=True, slots=True)
class Event(Generic[Task]):
    """What happened to a task: it has started, a round of it is done, it is done or has failed."""

    task: Task
    kind: str
    error: Expected | None = None


class Order(Generic[Task]):
    """Which task comes next.

    Args:
        tasks: In the order wanted.
        after: Tasks to one that comes to its end first, where that is among the tasks.
    """

    def __init__(self, tasks: Sequence[Task], after: Mapping[Task, Task]) -> None:
        there = set(tasks)
        self._waits = {task: after[task] for task in tasks if after.get(task) in there}
        self._ready = [task for task in tasks if task not in self._waits]

    def take(self) -> Task | None:
        """Return a task that can run now; None if there is none."""
        return self._ready.pop(0) if self._ready else None

    def settle(self, task: Task) -> None:
        """Let what waited for a task come next, so that what belongs together comes to an end."""
        freed = [other for other, first in self._waits.items() if first == task]
        self._ready[:0] = freed
        for other in freed:
            del self._waits[other]


@dataclass(slots=True)
class Pool(Generic[Task]):
    """Worker processes, none of which is left behind.

    Args:
        workers: How many at most.
        log: Where they write what parts print, and tracebacks.
        job: A task to what its worker needs.
        after: Tasks to one that comes first (:class:`Order`).
    """

    workers: int
    log: Path
    job: Callable[[Task], Mapping[str, Any]]
    after: Mapping[Task, Task] = field(default_factory=dict)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, tasks: Sequence[Task]) -> Iterator[Event[Task]]:
        """Run the tasks and yield what happens to them.

        A task that fails, or whose process ends, fails alone. Leaving the loop early, also by
        Ctrl-C, ends every worker at once.
        """
        order = Order(tasks, self.after)
        heard: queue.SimpleQueue[tuple[subprocess.Popen[str], str]] = queue.SimpleQueue()
        idle: list[subprocess.Popen[str]] = []
        busy: dict[subprocess.Popen[str], Task] = {}
        try:
            while True:
                while len(busy) < self.workers and (task := order.take()) is not None:
                    process = idle.pop() if idle else self._start(heard)
                    busy[process] = task
                    yield Event(task, "started")
                    self._tell(process, task)
                if not busy:
                    return
                process, line = heard.get()
                if process not in busy:  # it ended without anything to do
                    idle.remove(process)
                    continue
                said = json.loads(line) if line else self._ended(process)
                error = failure(said) if said["event"] == "failed" else None
                event = Event(busy[process], said["event"], error)
                if event.kind in ("done", "failed"):
                    order.settle(busy.pop(process))
                    idle += [process] if line else []
                yield event
        finally:
            self._stop()

    def _start(
        self, heard: queue.SimpleQueue[tuple[subprocess.Popen[str], str]]
    ) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        env.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
        with self.log.open("ab") as log, uninterrupted():
            process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-P", "-c", CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C reaches us alone
            )
            self._processes.append(process)

        def listen() -> None:
            assert process.stdout is not None
            with process.stdout as back:
                for line in back:
                    heard.put((process, line))
            heard.put((process, ""))

        threading.Thread(target=listen, daemon=True).start()
        return process

    def _tell(self, process: subprocess.Popen[str], task: Task) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which will be heard
            process.stdin.write(json.dumps(self.job(task)) + "\n")
            process.stdin.flush()

    def _ended(self, process: subprocess.Popen[str]) -> dict[str, str]:
        """Return what a process that has ended would have said."""
        error = FedfuseError(
            "its process ended unexpectedly",
            got=f"exit code {process.wait()}",
            next_step=f"Look at the end of {self.log}; a killed process often means too little "
            "memory: take fewer workers.",
        )
        return {"event": "failed", "error": str(error)}

    def _stop(self) -> None:
        with uninterrupted():
            pids = {process.pid for process in self._processes if process.poll() is None}
            end(descendants(pids) | pids, (SIGTERM, SIGKILL))
            for process in self._processes:
                process.wait()
                with suppress(OSError):
                    assert process.stdin is not None
                    process.stdin.close()
