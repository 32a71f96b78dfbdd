"""What to say about clients that failed: where, why, and how to see it happen alone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.config.untrusted import own_code
from experiments.terminal.console import TRACEBACK, complain, notes, say, shows_all
from experiments.terminal.literal import literal
from experiments.terminal.tables import new_table
from fedfuse.errors import FedfuseError
from fedfuse.failure import Failure
from fedfuse.types import RoundRecord
from server.reporters.protocol import RunInfo
from server.transport.answer import ClientFailedError

Expected = FedfuseError | ClientFailedError
EXPECTED = (FedfuseError, ClientFailedError)
"""What stops a run and is no bug: the other runs of its sweep go on."""


def tell(error: Expected) -> int:
    """Tell what stopped a run, and return the exit code."""
    if isinstance(error, ClientFailedError):
        say(format_failure(error))
        return 1
    complain(error)
    return 2


def format_failure(error: ClientFailedError) -> str:
    """Return where a client failed, who it was, and the notes that say how to go on from there.

    Where it failed are the frames of the user's own code, if it is theirs; else, or where it is
    asked for, the client's whole traceback.
    """
    failure, lines = error.failure, [f"error: {error}"]
    if failure.own and not shows_all():
        lines += [failure.own, f"{TRACEBACK} shows the rest of the traceback."]
    elif not failure.quarantined:  # such a client ran into no error of its own
        lines.insert(0, failure.traceback.rstrip("\n"))
    return "\n".join([*lines, *notes(error)])


def how_to_repeat(
    failure: Failure, overrides: Sequence[str], saved: Path | None = None, *, serial: bool = False
) -> list[str]:
    """Return what to do about a client that failed: go on without it, or see it happen alone.

    Args:
        failure: What happened.
        overrides: The run's command line.
        saved: The run folder, if it holds a checkpoint: the round that failed is then all that
            has to be repeated.
        serial: Whether the run was in one process already.
    """
    if failure.quarantined:
        return ["To go on without such clients: server.fail_fast=false"]
    if saved is not None:
        # Code of the user's own is named again: a folder alone is not believed.
        given = [line for line in overrides if "._target_=" in line]
        own = own_code(saved) or given
        words = ["fedfuse", f"resume={saved}", *own, *([] if serial else ["engine=serial"])]
        what = "Once it is mended, go on with" if serial else "To see it in one process"
        return [f"{what}: {shlex.join(words)}"]
    return [] if serial else [f"To see it in one process: {rerun(overrides)}"]


def rerun(overrides: Sequence[str]) -> str:
    """Return the command that repeats a run in one process.

    Results do not depend on the engine, so the same client fails at the same place and ends the
    run there. The number of rounds stays: what is planned for all of them (the noise of privacy,
    a schedule) would change with it.

    >>> rerun(["engine=ray", "engine.num_nodes=4", "method=fedmd", "num_rounds=50"])
    'fedfuse method=fedmd num_rounds=50 engine=serial'
    """
    replaced = ("engine", "hydra.run.dir", "hydra.sweep.dir")
    kept = [
        line
        for line in overrides
        if (key := line.lstrip("+").split("=", 1)[0]) not in replaced
        and not key.startswith("engine.")
    ]
    return shlex.join(["fedfuse", *kept, "engine=serial"])


class Absences:
    """A reporter that remembers the clients that rounds went on without."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Failure]] = []

    def start(self, info: RunInfo) -> None:
        """Begin with nobody."""

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Remember nothing."""

    def client_done(self, client_id: int) -> None:
        """Remember nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Remember who was missing."""
        self.rows += [(arm, failure) for failure in record.failures]

    def close(self) -> None:
        """Hold nothing."""

    def as_list(self) -> list[dict[str, Any]]:
        """Return the absences as ``run.json`` keeps them."""
        return [{"arm": arm, **asdict(failure)} for arm, failure in self.rows]

    def render(self, console: Console) -> None:
        """Print who was missing, when and why, if anybody was."""
        if not self.rows:
            return
        table = new_table("clients that rounds went on without")
        for name in ("arm", "round", "phase", "client"):
            table.add_column(name, no_wrap=True)
        table.add_column("why")
        for arm, failure in self.rows:
            words = (arm, str(failure.round), failure.phase, str(failure.client_id), failure.error)
            table.add_row(*map(literal, words))
        console.print(table)
