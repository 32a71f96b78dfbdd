"""A process that runs what it is given: jobs arrive as lines of JSON, and lines of JSON go back."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from experiments.terminal.console import notes
from experiments.terminal.encoding import any_character
from fedfuse.errors import FedfuseError
from fedfuse.failure import Failure
from fedfuse.types import RoundRecord
from server.transport.answer import ClientFailedError

if TYPE_CHECKING:
    from experiments.runs.failures import Expected
    from experiments.runs.lifecycle import Run
    from server.reporters.protocol import Reporter

Tell = Callable[..., None]


class Ticks:
    """A reporter that tells of every finished round.

    Args:
        tell: Whom.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def start(self, info: Any) -> None:  # noqa: ARG002
        """Tell that the data is there."""
        self._tell("start")

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Tell nothing."""

    def client_done(self, client_id: int) -> None:
        """Tell nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:  # noqa: ARG002
        """Tell that a round is done."""
        self._tell("round")

    def close(self) -> None:
        """Hold nothing."""


def run_job(
    job: Mapping[str, Any],
    tell: Tell,
    perform: Callable[[Run, list[Reporter]], object] | None = None,
    log: TextIO | None = None,
) -> None:
    """Run one job; what stops it, also a bug, is told and stops nothing else.

    Args:
        job: What :meth:`experiments.runs.sweep.Sweep.job` made.
        tell: Takes events.
        perform: Performs the run that it is; as a run alone if None.
        log: Where a traceback goes; standard error if None.
    """
    from experiments.runs import lifecycle
    from experiments.runs.sweep import Sweep

    try:
        run = Sweep.of_job(job).open(0)
        (perform or lifecycle.perform)(run, [Ticks(tell)])
    except Exception as error:
        traceback.print_exc(file=log)
        tell("failed", notes=notes(error), **_told(error))
    else:
        tell("done")


def _told(error: Exception) -> dict[str, Any]:
    if isinstance(error, ClientFailedError):
        return {"failure": asdict(error.failure)}
    if isinstance(error, FedfuseError):
        return {"error": error.message, "frames": error.frames}
    return {"error": f"{type(error).__name__}: {error}"}


def failure(said: Mapping[str, Any]) -> Expected:
    """Return what stopped a run, from what its worker told of it."""
    error: Expected
    if client := said.get("failure"):
        error = ClientFailedError(Failure(**client))
    else:
        error = FedfuseError(said["error"])
        error.frames = said.get("frames", "")
    for note in said.get("notes", ()):
        error.add_note(note)
    return error


def main() -> None:
    """Run the jobs that come in until there is nobody to send them, which ends this at once."""
    from experiments.engines.processes import terminable

    # Whatever a part prints goes to the log; the way back is ours alone.
    back: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    any_character()
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(line)
        os._exit(1)

    def tell(event: str, **fields: Any) -> None:
        back.write(json.dumps({"event": event, **fields}) + "\n")
        back.flush()

    threading.Thread(target=listen, daemon=True).start()
    try:
        with terminable():
            while True:
                run_job(json.loads(jobs.get()), tell)
    except KeyboardInterrupt:  # its folder has been told
        os._exit(1)
