"""One run that is about to begin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from server.reporters.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Job:
    """A configuration and the folder that was opened for it.

    Args:
        cfg: The configuration, without Hydra's own node.
        folder: Where the run is written down.
        shared: Where the runs of its sweep keep the baselines that they share; None for a run
            on its own.
        overrides: Its command line.
        number: Its number in the sweep, from 0.
    """

    cfg: DictConfig
    folder: RunFolder
    shared: Path | None
    overrides: list[str]
    number: int = 0
