"""How much a file of a few bytes may unpack to, and a disk hold."""

from __future__ import annotations

import errno
from pathlib import Path

from fedfuse.errors import DataError

MOST_UNPACKED, MOST_RATIO = 4 * 2**30, 100
"""A file may unpack to so many bytes, or to so many times what it holds."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where a disk, or one's share of it, is full."""


def unpacked(file: Path, size: int, limit: int) -> DataError:
    """Return the error for a file that is not unpacked, because it would be far more than it is."""
    return DataError(
        f"{file} is not unpacked", got=f"{size} bytes or more", allowed=f"{limit} bytes"
    )
