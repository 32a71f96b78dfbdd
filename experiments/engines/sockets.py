"""A folder whose path is short enough for sockets in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedfuse.errors import FedfuseError

LONGEST = 107
"""Bytes of a Unix socket's path: sockaddr_un holds 108, the last of them 0."""
_ROOTS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - folders are made with mkdtemp

_RAY = len("/session_2026-01-31_12-00-00_000000_1234567/sockets/plasma_store_12")
"""Bytes below Ray's folder that its sockets are deep."""


def too_long(folder: str | os.PathLike[str], rest: int) -> bool:
    """Tell whether a socket ``rest`` bytes below a folder has a path that is too long.

    >>> too_long("/tmp", 100), too_long("/tmp", 104)
    (False, True)
    """
    return len(os.fsencode(folder)) + rest > LONGEST


def short_folder(rest: int) -> tempfile.TemporaryDirectory[str]:
    """Return a new temporary folder in which paths of ``rest`` bytes more can be sockets.

    It lies where temporary files go; where that is too deep, as in a scheduler's job folder, in
    one of the system's own.

    Raises:
        FedfuseError: If there is no place that is short enough.
    """
    usual = tempfile.gettempdir()
    name = len("/fedfuse-12345678")
    for root in (usual, *_ROOTS):
        there = root == usual or (Path(root).is_dir() and os.access(root, os.W_OK | os.X_OK))
        if there and not too_long(root, name + rest):
            return tempfile.TemporaryDirectory(
                prefix="fedfuse-", dir=root, ignore_cleanup_errors=True
            )
    raise FedfuseError(
        "The folder for temporary files has too long a path for sockets",
        got=f"{len(os.fsencode(usual))} bytes, {usual}",
        allowed=f"at most {LONGEST - name - rest} bytes",
        next_step="Set the environment variable TMPDIR to a folder with a shorter path.",
    )


@contextmanager
def ray_folder() -> Iterator[str | None]:
    """Yield where the session of a Ray goes that is started here.

    None for its usual place; if that is too deep for its sockets, a folder of its own that ends
    with it.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    if too_long(f"{usual}/ray", _RAY):
        with short_folder(_RAY) as folder:
            yield folder
    else:
        yield None
