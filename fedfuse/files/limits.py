"""How much a file of a few bytes may unpack to."""

from __future__ import annotations

from pathlib import Path

from fedfuse.errors import DataError

MOST_UNPACKED, MOST_RATIO = 4 * 2**30, 100
"""A file may unpack to so many bytes, or to so many times what it holds."""


def unpacked(file: Path, size: int, limit: int) -> DataError:
    """Return the error for a file that is not unpacked, because it would be far more than it is."""
    return DataError(
        f"{file} is not unpacked", got=f"{size} bytes or more", allowed=f"{limit} bytes"
    )
