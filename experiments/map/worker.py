"""A process that runs cells: jobs arrive as lines of JSON, and lines of JSON say how they go."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from experiments.terminal.encoding import any_character
from fedfuse.types import RoundRecord

if TYPE_CHECKING:
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

    def start(self, info: Any) -> None:
        """Tell how many rounds there will be."""
        self._tell("start", rounds=info.num_rounds, arms=len(info.arms))

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Tell nothing."""

    def client_done(self, client_id: int) -> None:
        """Tell nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:  # noqa: ARG002
        """Tell that a round is done, unless it comes from the shared baseline."""
        self._tell("round", arm=arm)

    def close(self) -> None:
        """Hold nothing."""


def run_cell(
    job: Mapping[str, Any],
    tell: Tell,
    perform: Callable[[Run, list[Reporter]], object] | None = None,
    log: TextIO | None = None,
) -> None:
    """Run one cell, in a folder that holds nothing yet; what was left half done is removed.

    Args:
        job: ``folder``, ``shared`` (where baselines are kept), ``config`` (YAML), ``overrides``.
        tell: Takes events.
        perform: Performs the run that it is; as a run alone if None.
        log: Where a traceback goes; standard error if None.
    """
    from omegaconf import DictConfig, OmegaConf

    from experiments.runs import lifecycle
    from fedfuse.errors import FedfuseError
    from server.reporters.folder import RunFolder

    path = Path(job["folder"])
    try:
        if path.exists():
            RunFolder(path).clear()
        cfg = OmegaConf.create(job["config"])
        assert isinstance(cfg, DictConfig)
        shared = Path(job["shared"])
        run = lifecycle.open_run(cfg, path, job["overrides"], baselines=shared)
        (perform or lifecycle.perform)(run, [Ticks(tell)])
    except Exception as error:
        mistake = isinstance(error, FedfuseError)
        traceback.print_exc(file=log)
        tell("failed", error=str(error) if mistake else f"{type(error).__name__}: {error}")
        return
    tell("done")


def main() -> None:
    """Run the jobs that come in until there are no more, or nobody is there to send them."""
    # Whatever a part prints goes to the log; the way back is ours alone.
    back: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    any_character()

    def tell(event: str, **fields: Any) -> None:
        back.write(json.dumps({"event": event, **fields}) + "\n")
        back.flush()

    try:
        for line in sys.stdin:
            run_cell(json.loads(line), tell)
    except BrokenPipeError:  # the map is gone
        os._exit(1)
