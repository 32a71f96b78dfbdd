"""Find the runs in a folder: one run, a sweep, or a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config.folder import natural
from experiments.results.run_group import settings_of, text
from experiments.results.runs import CONTROL_FILES, Run, read_run
from fedfuse.errors import ConfigError
from fedfuse.files import confined

DEPTH = 3
"""How deep below the given folder runs are looked for."""


@dataclass(frozen=True, slots=True)
class Results:
    """The runs of a folder.

    Args:
        runs: Those that finished, in the order of their folders' names.
        unfinished: Those that did not; never averaged in.
        copies: Runs that are there again, each with the one that counts.
    """

    runs: tuple[Run, ...]
    unfinished: tuple[Run, ...] = ()
    copies: tuple[tuple[Run, Run], ...] = ()

    def notes(self) -> list[str]:
        """Return a sentence on each run that does not count."""
        return [
            *(
                f"{run.path.name} is not finished (status: {run.record.get('status', 'unknown')}) "
                "and does not count."
                for run in self.unfinished
            ),
            *(
                f"{again.path} repeats {first.path} to the last number; the two count once."
                for again, first in self.copies
            ),
        ]


def load(*paths: Path) -> Results:
    """Read every run in the folders: run folders, sweeps, maps, or what holds any of them.

    A run that is reached twice is read once, and one that repeats a run of another folder number by
    number is no second witness: two sweeps that both trained local training go together.

    Raises:
        ConfigError: If there is no such folder, no run in one of them or none that finished, or
            one cannot be read.
    """
    folders: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"'{path}' is not a folder.", next_step=_NEXT)
        below = _run_folders(path)
        if not below:
            raise ConfigError(f"there is no run in '{path}'.", next_step=_NEXT)
        for folder in below:
            folders.setdefault(folder.resolve(), (folder, path))
    found = [(read_run(folder), path) for folder, path in folders.values()]
    unfinished = tuple(run for run, _ in found if not run.finished)
    runs, copies = _once([(run, path) for run, path in found if run.finished])
    if not runs:
        named = ", ".join(map(str, paths))
        states = ", ".join(sorted({str(run.record.get("status")) for run in unfinished}))
        raise ConfigError(
            f"no run in '{named}' has finished, so there is nothing to compare",
            got=f"{len(unfinished)} of status {states}",
            next_step="Let it finish first.",
        )
    return Results(runs, unfinished, copies)


def _once(
    runs: Sequence[tuple[Run, Path]],
) -> tuple[tuple[Run, ...], tuple[tuple[Run, Run], ...]]:
    """Return the runs that differ, and each that repeats one of another folder with that one."""
    alike: dict[tuple[object, ...], list[tuple[Run, Path]]] = {}
    kept, copies = [], []
    for run, path in runs:
        settings = sorted((key, text(value)) for key, value in settings_of(run).items())
        same = alike.setdefault((run.method, run.seed, run.fingerprint, *settings), [])
        first = next((other for other, at in same if at != path and _repeats(run, other)), None)
        if first is None:
            same.append((run, path))
            kept.append(run)
        else:
            copies.append((run, first))
    return tuple(kept), tuple(copies)


def _repeats(run: Run, other: Run) -> bool:
    """Tell whether two runs have, byte by byte, one result."""
    return all(
        _bytes(run.path / name) == _bytes(other.path / name)
        for name in ("metrics.parquet", *CONTROL_FILES.values())
    )


def _bytes(file: Path) -> bytes | None:
    return confined.read(file.parent, file.name) if file.is_file() else None


_NEXT = "Name the folder that fedfuse printed at the end of a run, a sweep or a map."


def says_finished(path: Path) -> bool:
    """Tell whether a run folder says that its run has finished, whatever else is wrong with it."""
    try:
        return b'"status": "finished"' in (path / "run.json").read_bytes()
    except OSError:
        return False


def _run_folders(path: Path) -> Sequence[Path]:
    """Return the folder itself if it is a run's, or those below it.

    A run that was ended before its configuration was written, an instant after its folder was made,
    has not begun: nothing is there to be read.
    """
    if (path / "run.json").is_file():
        return [path]
    folders: list[Path] = []
    level = [path]
    for _ in range(DEPTH):
        below = [child for folder in level for child in _folders(folder, path)]
        folders += [child for child in below if (child / "run.json").is_file()]
        level = [child for child in below if not (child / "run.json").is_file()]
    folders = [run for run in folders if (run / "config.yaml").is_file() or says_finished(run)]
    return sorted(folders, key=lambda folder: natural(str(folder.relative_to(path))))


def _folders(folder: Path, top: Path) -> list[Path]:
    """Return the folders in a folder, and refuse one that is elsewhere."""
    found = []
    for child in folder.iterdir():
        if child.is_symlink() and child.is_dir():
            if not child.resolve().is_relative_to(top.resolve()):
                raise ConfigError(
                    f"'{child}' is a link, and nothing is followed out of a folder.",
                    next_step="Name the folder that it leads to beside this one, or put the runs "
                    "themselves there.",
                )
        elif child.is_dir():
            found.append(child)
    return found
