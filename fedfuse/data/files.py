"""Look into a user's folder: what counts as a part of a data set there, and what does not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from fedfuse.errors import DataError
from fedfuse.files.conversions import conversion
from fedfuse.files.paths import expand

_LEFT_BEHIND = frozenset(
    {
        "__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir",
        "$recycle.bin", "system volume information", "lost+found", "icon\r",
    }
)  # fmt: skip
"""What operating systems and programs leave in folders, beside names that begin with a dot."""


def place(path: object, wanted: str) -> Path:
    """Return the path that a user wrote, with a leading ``~`` or ``~user`` filled in.

    Args:
        path: What was written.
        wanted: What should be there, for messages.

    Raises:
        DataError: If it is no text, or empty, or cannot be looked at.
        FedfuseError: If nobody knows the home folder that it names.
    """
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise DataError(
            "A path to data must be text",
            got=repr(path),
            allowed=wanted,
            next_step="Write it in quotes: path: '2024'." if path is not None else None,
        )
    found = expand(path)
    try:
        found.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # which the readers tell in words of their own
    except OSError as error:  # no permission, a name too long, links in a circle
        raise DataError(
            f"The path {found} cannot be read", got=error.strerror or str(error)
        ) from error
    return found


def is_left_behind(name: str) -> bool:
    """Tell whether an entry of a folder is hidden, or a system's and no part of the data.

    >>> [is_left_behind(name) for name in (".ipynb_checkpoints", "__MACOSX", "cat")]
    [True, True, False]
    """
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def entries(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted by name, without what is hidden.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not is_left_behind(entry.name))
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read", got=error.strerror or str(error)
        ) from error


def walk(folder: Path, root: Path | None = None) -> Iterator[Path]:
    """Yield every entry under a folder that is not itself a folder, sorted, nothing hidden.

    Links are followed. No folder is entered twice, nor one that ``root`` lies in, so a link that
    leads back up ends there.

    Args:
        folder: Where to begin.
        root: The data set that it belongs to; ``folder`` itself if None.
    """
    top = (root or folder).resolve()
    above = [top, *top.parents] if folder.resolve() != top else top.parents
    yield from _walk(folder, {_identity(parent) for parent in above})


def other_kind(folder: Path) -> str | None:
    """Return what to do with a folder that holds files of another kind, or None."""
    return conversion(*(file.name for file in itertools.islice(walk(folder), 1000)))


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    if (identity := _identity(folder)) in seen:
        return
    seen.add(identity)
    for entry in entries(folder):
        if entry.is_dir():
            yield from _walk(entry, seen)
        else:
            yield entry


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read", got=error.strerror or str(error)
        ) from error
    return found.st_dev, found.st_ino
