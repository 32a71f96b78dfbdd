"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path

from fedfuse.errors import FedfuseError


def expand(path: str | os.PathLike[str]) -> Path:
    """Return the path with its ``~`` or ``~name`` written out.

    Raises:
        FedfuseError: If it is no path, or if nobody knows that home folder, as in a container whose
            user has none.

    >>> expand("data/digits.npz").as_posix()
    'data/digits.npz'
    """
    if not isinstance(path, str | os.PathLike) or not str(path) or "\0" in str(path):
        raise FedfuseError("A path is none", got=repr(path), allowed="text or a pathlib.Path")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        if Path(path).exists():  # a folder in this one whose name begins so
            return Path(path)
        raise FedfuseError(
            "There is no home folder for the '~' in a path",
            got=str(path),
            next_step="Write the whole path, or set the environment variable HOME.",
        ) from error
