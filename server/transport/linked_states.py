"""State files of clients that the server reaches: linked under its own names, read, removed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fedfuse.errors import FedfuseError, KnowledgeError
from fedfuse.files.state_files import merged, state_header, state_path

FILES = 32
"""State files that become one file of a checkpoint, each of which is forced to disk."""


def link(folder: Path, arm: str, tokens: Mapping[int, int]) -> tuple[dict[int, Path], list[int]]:
    """Link each client's state file; return the links, and the clients whose file is not there.

    Clients remove their old versions when they write new ones.

    Args:
        folder: Where clients' states wait.
        arm: The arm.
        tokens: Which version of each client counts; 0 for who has not done anything yet.

    Raises:
        FedfuseError: If the files cannot be reached, or nobody's is there.
    """
    own = folder / "saving"
    links: dict[int, Path] = {}
    gone: dict[int, FileNotFoundError] = {}
    try:
        own.mkdir(exist_ok=True)
        for client_id, token in sorted(tokens.items()):
            if token:  # who has not done anything yet has no file
                there = state_path(folder, arm, client_id, token)
                try:
                    _link_or_copy(there, own / there.name)
                except FileNotFoundError as error:
                    gone[client_id] = error
                else:
                    links[client_id] = own / there.name
    except OSError as error:
        raise _unread(own, error) from error
    if gone and not links:  # nobody's is there: the folder is another one
        raise _unread(own, next(iter(gone.values())))
    return links, list(gone)


def read(
    links: Mapping[int, Path], refuse: Callable[[int, str], None] = lambda _, __: None
) -> Iterator[bytes]:
    """Yield the files, several as one, and remove them; what is no state is refused."""
    ids = list(links)
    for first in range(0, len(ids), FILES):
        contents: dict[int, bytes] = {}
        for i in ids[first : first + FILES]:
            try:
                content = _plain_file(links[i])
                state_header(content)
                contents[i] = content
            except ValueError as error:
                refuse(i, str(no_state(str(error))))
            except OSError as error:
                raise _unread(links[i].parent, error) from error
            with suppress(OSError):
                links[i].unlink()
        if contents:
            yield merged(contents)


def _plain_file(path: Path) -> bytes:
    """Return what a client has written; a link is not followed, and a pipe not waited for.

    Raises:
        ValueError: If it is no plain file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise ValueError("it is a link") from error
        raise
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no plain file")
        return file.read()


def no_state(got: str) -> KnowledgeError:
    """Return what is raised where something else than states was handed over."""
    return KnowledgeError(
        "What was handed over for a checkpoint is no state of these clients", got=got
    )


def _unread(folder: Path, error: Exception) -> FedfuseError:
    return FedfuseError(
        f"The states of the clients cannot be read from '{folder}'",
        got=str(error),
        next_step="Where nodes and server share no folder, set client.state=context.",
    )


def _link_or_copy(there: Path, here: Path) -> None:
    here.unlink(missing_ok=True)  # of a checkpoint that could not be written
    try:
        here.hardlink_to(there)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(there, here, follow_symlinks=False)
