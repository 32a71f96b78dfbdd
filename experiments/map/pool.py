"""Run the cells of a map side by side, local training before the methods that are held to it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from experiments.engines.processes import descendants, end, uninterrupted
from experiments.map.grid import Cell
from fedfuse.compare import LOCAL
from fedfuse.errors import FedfuseError


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a cell: started, round, done, or failed with an error."""

    cell: Cell
    kind: str
    error: str = ""


class Order:
    """Hand out cells: methods whose baseline is there first, so that federations come to an end.

    Args:
        cells: What is to be run, in the order wanted.
        waits: Federations whose local cell is among them; their methods wait for it.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._first = [cell for cell in cells if cell.method == LOCAL]
        waits = {cell.federation for cell in self._first}
        rest = [cell for cell in cells if cell.method != LOCAL]
        self._ready = [cell for cell in rest if cell.federation not in waits]
        self._waiting = [cell for cell in rest if cell.federation in waits]
        self._changed = threading.Condition()
        self._closed = False

    def take(self) -> Cell | None:
        """Return a cell that can run now, after waiting for one; None when no more will come."""
        with self._changed:
            while not self._closed:
                if self._ready:
                    return self._ready.pop(0)
                if self._first:
                    return self._first.pop(0)
                if not self._waiting:
                    return None
                self._changed.wait()
            return None

    def settle(self, cell: Cell, *, ok: bool) -> list[Cell]:
        """Free what waited for a cell; return what cannot run because it failed."""
        if cell.method != LOCAL:
            return []
        with self._changed:
            freed = [other for other in self._waiting if other.federation == cell.federation]
            self._waiting = [other for other in self._waiting if other not in freed]
            if ok:
                self._ready += freed
            self._changed.notify_all()
        return [] if ok else freed

    def close(self) -> None:
        """Hand out nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(slots=True)
class Pool:
    """Worker processes; a context manager that leaves none behind.

    Args:
        workers: How many.
        log: Where they write what parts print, and tracebacks.
        job: A cell to what its worker needs.
    """

    workers: int
    log: Path
    job: Callable[[Cell], Mapping[str, Any]]
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _events: queue.Queue[Event | BaseException] = field(default_factory=queue.Queue)

    def run(self, cells: Sequence[Cell]) -> Iterator[Event]:
        """Run the cells and yield what happens to them.

        Leaving the loop early, also by Ctrl-C, ends every worker at once.
        """
        order = Order(cells)
        open_ = set(cells)
        try:
            for _ in range(min(self.workers, len(cells))):
                process = self._start()
                threading.Thread(target=self._drive, args=(process, order), daemon=True).start()
            while open_:
                try:
                    event = self._events.get(timeout=0.5)
                except queue.Empty:
                    continue
                if isinstance(event, BaseException):
                    raise event
                yield event
                if event.kind in ("done", "failed"):
                    open_.discard(event.cell)
                    for other in order.settle(event.cell, ok=event.kind == "done"):
                        open_.discard(other)
                        yield Event(other, "failed", "its local training failed")
        finally:
            order.close()
            self._stop()

    def _start(self) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        env.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
        # Not -m: it would put the working folder before everything installed.
        code = "from experiments.map.worker import main; main()"
        with self.log.open("ab") as log, uninterrupted():
            process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C reaches us alone
            )
            self._processes.append(process)
        return process

    def _drive(self, process: subprocess.Popen[str], order: Order) -> None:
        """Feed one worker until no cell is left."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            while (cell := order.take()) is not None:
                self._events.put(Event(cell, "started"))
                process.stdin.write(json.dumps(self.job(cell)) + "\n")
                process.stdin.flush()
                while True:
                    line = process.stdout.readline()
                    if not line:
                        raise FedfuseError(
                            f"the process that ran the cell {cell.name} ended unexpectedly",
                            got=f"exit code {process.wait()}",
                            next_step=f"Look at the end of {self.log}; a killed process often "
                            "means too little memory: lower map.workers. Start the map again to "
                            "go on.",
                        )
                    said = json.loads(line)
                    self._events.put(Event(cell, said["event"], said.get("error", "")))
                    if said["event"] in ("done", "failed"):
                        break
        except BaseException as error:
            self._events.put(error)

    def _stop(self) -> None:
        with uninterrupted():
            pids = {process.pid for process in self._processes if process.poll() is None}
            end(descendants(pids) | pids, (SIGTERM, SIGKILL))
            for process in self._processes:
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    with suppress(OSError):
                        assert pipe is not None
                        pipe.close()
