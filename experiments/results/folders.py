"""Find the runs in a folder: one run, a sweep, or a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.results.runs import Run, read_run
from fedfuse.errors import ConfigError

DEPTH = 3
"""How deep below the given folder runs are looked for."""


@dataclass(frozen=True, slots=True)
class Results:
    """The runs of a folder.

    Args:
        path: The folder.
        runs: Those that finished, in the order of their folders' names.
        unfinished: Those that did not; never averaged in.
    """

    path: Path
    runs: tuple[Run, ...]
    unfinished: tuple[Run, ...] = ()

    def notes(self) -> list[str]:
        """Return a sentence on each run that does not count."""
        return [
            f"{run.path.name} is not finished (status: {run.record.get('status', 'unknown')}) "
            "and does not count."
            for run in self.unfinished
        ]


def load(path: Path) -> Results:
    """Read every run in ``path``: a run folder, or one that holds run folders.

    Raises:
        ConfigError: If there is no such folder, no run in it or none that finished, or one
            cannot be read.
    """
    if not path.is_dir():
        raise ConfigError(f"'{path}' is not a folder.", next_step=_NEXT)
    found = [read_run(folder) for folder in _run_folders(path)]
    if not found:
        raise ConfigError(f"there is no run in '{path}'.", next_step=_NEXT)
    runs = tuple(run for run in found if run.finished)
    unfinished = tuple(run for run in found if not run.finished)
    if not runs:
        states = ", ".join(sorted({str(run.record.get("status")) for run in unfinished}))
        raise ConfigError(
            f"no run in '{path}' has finished, so there is nothing to compare",
            got=f"{len(unfinished)} of status {states}",
            next_step="Let it finish first.",
        )
    return Results(path, runs, unfinished)


_NEXT = "Name the folder that fedfuse printed at the end of a run, a sweep or a map."


def _run_folders(path: Path) -> Sequence[Path]:
    if (path / "run.json").is_file():
        return [path]
    folders: list[Path] = []
    level = [path]
    for _ in range(DEPTH):
        below = [child for folder in level for child in folder.iterdir() if child.is_dir()]
        folders += [child for child in below if (child / "run.json").is_file()]
        level = [child for child in below if not (child / "run.json").is_file()]
    return sorted(folders, key=lambda folder: _natural(str(folder.relative_to(path))))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts 2 before 10."""
    import re

    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
