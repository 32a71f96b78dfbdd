"""Open what lies in a folder that somebody else may have filled, and nothing outside of it.

Below the folder no link is followed: every step is opened from the descriptor of the step before,
so that nothing which is exchanged meanwhile leads elsewhere either. The folder itself is the
user's word and may be reached through a link.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fedfuse.errors import FedfuseError

DEEPEST = 12
"""Levels of a run folder, a sweep or a map; fedfuse's own have 5."""

LARGEST = 2**26
"""Bytes of a JSON file in a run folder that are believed; a thousand clients come to some 2^22."""


class StrayError(FedfuseError):
    """Something in a folder leads out of it, or is neither a file nor a folder."""


@contextmanager
def opened(root: Path, *names: str, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the folder ``root/names...``.

    Args:
        root: The folder that the user named.
        names: One folder below the other.
        make: Whether to make those that are not there.

    Raises:
        StrayError: If one of ``names`` is no folder of its own.
        OSError: If it is not there.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for depth, name in enumerate(names):
            if make:
                _check_name(name)
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=handle)
            here = root.joinpath(*names[:depth])
            below = _open(here, name, handle, os.O_RDONLY | os.O_DIRECTORY)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def read(root: Path, *names: str, most: int | None = None) -> bytes:
    """Return what the file ``root/names...`` holds.

    Args:
        root: The folder that the user named.
        names: Folders below it, then the file.
        most: Bytes that are plausible.

    Raises:
        StrayError: If a link leads to it, or it is no plain file.
        ValueError: If it is larger than ``most``.
        OSError: If it cannot be read.
    """
    *folders, name = names
    with opened(root, *folders) as handle:
        # A pipe would let us wait for its writer for ever.
        file = _open(root.joinpath(*folders), name, handle, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(file, "rb") as content:
        size = os.fstat(file).st_size
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _stray(root.joinpath(*names), "no plain file")
        if most is not None and size > most:
            raise ValueError(f"{name} has {size} bytes, more than {most}")
        return content.read()


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON file of a run folder that anybody may have written.

    Raises:
        ValueError: If it holds no JSON object, or is larger or deeper than any that was written.
        FedfuseError: If a link leads to it.
        OSError: If it cannot be read.
    """
    try:
        found = json.loads(read(folder, name, most=LARGEST))
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} holds no object")
    return found


def create(handle: int, name: str) -> int:
    """Return the descriptor of a new file to write; whatever had its name is only unlinked."""
    _check_name(name)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=handle)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.open(name, flags, 0o666, dir_fd=handle)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a new file beside ``target`` that takes its place when the block succeeds.

    What has its name meanwhile is only unlinked, and a link at ``target`` itself makes way.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def hold(folder: Path, name: str) -> int:
    """Return the descriptor of a file that is locked as long as this process lives.

    Raises:
        BlockingIOError: If another process holds it.
        StrayError: If a link has its name.
        OSError: If it cannot be made.
    """
    with opened(folder) as handle:
        file = _open(folder, name, handle, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def listed(root: Path, *names: str) -> list[str]:
    """Return what the folder ``root/names...`` holds, sorted; nothing if it is not there."""
    try:
        with opened(root, *names) as handle:
            return sorted(os.listdir(handle))  # noqa: PTH208 - a Path knows no descriptors
    except FileNotFoundError:
        return []


def remove(root: Path, *names: str) -> None:
    """Remove a file, or a folder with all that is in it; of a link only the link itself."""
    *folders, name = names
    _check_name(name)
    with suppress(FileNotFoundError), opened(root, *folders) as handle:
        if stat.S_ISDIR(os.lstat(name, dir_fd=handle).st_mode):
            shutil.rmtree(name, dir_fd=handle)
        else:
            os.unlink(name, dir_fd=handle)


def check_folder(root: Path, name: str) -> None:
    """Refuse a place that is no folder of its own; one that is not there yet is fine.

    Raises:
        StrayError: If a link has its name, or a file.
    """
    with suppress(FileNotFoundError), opened(root, name):
        pass


def check_plain(root: Path) -> None:
    """Refuse a folder in which anything leads out of it, before something is written there.

    Libraries open their files by name (metrics, logs, event files), so links must not be there at
    all. A file with a second name may be somebody else's, and writing to it would change that.

    Raises:
        StrayError: For a link, a file with several names, a pipe, a socket or a device.
    """
    below = [root]
    for _ in range(DEEPEST):
        found, below = below, []
        for folder in found:
            with os.scandir(folder) as entries:
                for entry in entries:
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        below.append(Path(entry.path))
                    elif not stat.S_ISREG(info.st_mode):
                        link = stat.S_ISLNK(info.st_mode)
                        raise _stray(Path(entry.path), "a link" if link else "no plain file")
                    elif info.st_nlink > 1:
                        raise _stray(Path(entry.path), "a file with several names (a hard link)")
    if below:
        raise _stray(below[0], f"more than {DEEPEST} levels deep")


def _open(folder: Path, name: str, handle: int, flags: int) -> int:
    """Open what is called ``name`` in a folder, from the folder's descriptor."""
    _check_name(name)
    path = folder / name
    try:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666, dir_fd=handle)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            link = stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode)
            raise _stray(path, "a link" if link else "no folder") from error
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, or a device of nobody
            raise _stray(path, "no plain file") from error
        error.filename = str(path)
        raise


def _check_name(name: str) -> None:
    """Refuse a name that is a way to somewhere else."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise StrayError(f"{name[:100]!r} is no name of a file.")


def _stray(path: Path, what: str) -> StrayError:
    return StrayError(
        f"'{path}' is {what}, and nothing is followed out of a run's folder.",
        next_step="If you trust it, put the file itself there.",
    )
