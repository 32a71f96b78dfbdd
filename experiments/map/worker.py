"""A process that runs cells: jobs arrive as lines of JSON, and lines of JSON say how they go."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from experiments.terminal.encoding import any_character
from fedfuse.types import RoundRecord

Tell = Callable[..., None]
Perform = Callable[[Any, Any, Any, Path], Any]
"""Configuration, folder, reporter and where baselines are kept, to the run's summary."""


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


def alone(cfg: Any, folder: Any, reporter: Any, shared: Path) -> Any:
    """Run a cell by itself."""
    from experiments.runs import baselines, launch

    return launch.run(cfg, folder, reporter, baselines.Shelf(shared))


def run_cell(
    job: dict[str, Any], tell: Tell, perform: Perform = alone, log: TextIO | None = None
) -> None:
    """Run one cell, in a folder that holds nothing yet; what was left half done is removed.

    Args:
        job: ``folder``, ``shared`` (where baselines are kept), ``config`` (YAML), ``overrides``.
        tell: Takes events.
        perform: Runs it.
        log: Where a traceback goes; standard error if None.
    """
    from omegaconf import DictConfig, OmegaConf

    from experiments.runs.environment import facts
    from experiments.runs.watchers import build_watchers
    from fedfuse.errors import FedfuseError
    from server.reporters.files import Files
    from server.reporters.folder import RunFolder
    from server.reporters.many import Many

    path = Path(job["folder"])
    folder = RunFolder(path)
    try:
        if path.exists():
            folder.clear()
    except FedfuseError as error:
        tell("failed", error=str(error))
        return
    cfg = OmegaConf.create(job["config"])
    assert isinstance(cfg, DictConfig)
    folder.open(overrides=job["overrides"], seed=cfg.seed, **facts())
    reporter = Many([Files(folder), Ticks(tell), *build_watchers(cfg)])
    try:
        folder.write_config(job["config"])
        try:
            summary = perform(cfg, folder, reporter, Path(job["shared"]))
        finally:
            reporter.close()
        folder.finish(summary.as_dict())
    except Exception as error:
        words = (
            str(error) if isinstance(error, FedfuseError) else f"{type(error).__name__}: {error}"
        )
        folder.fail(words)
        traceback.print_exc(file=log)
        tell("failed", error=words)
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
