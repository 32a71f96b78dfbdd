"""Force what was written to disk: until then a power cut may take it back, or leave it empty.

A file's name and its content are forced separately: the content by the file, the name by the folder
that it is in, and so on for the folder's own name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path


def sync_file(path: Path) -> None:
    """Force a file's content to disk."""
    _sync(path, os.O_RDONLY | os.O_NOFOLLOW)


def sync_folder(path: Path) -> None:
    """Force the names in a folder to disk."""
    try:
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that forces no folders
            raise


def sync_tree(root: Path, besides: Collection[str] = ()) -> None:
    """Force everything below a folder to disk, and its name.

    Args:
        root: The folder.
        besides: Names in it that do not matter.
    """
    for folder, below, files in os.walk(root):
        if Path(folder) == root:
            below[:] = [name for name in below if name not in besides]
        for name in files:
            if (path := Path(folder) / name).is_file() and not path.is_symlink():
                sync_file(path)
        sync_folder(Path(folder))
    sync_folder(root.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are not there; force its name to disk."""
    new = [folder for folder in path.parents if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in (*reversed(new), path):
        sync_folder(folder.parent)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
