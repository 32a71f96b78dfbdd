"""``workers=N``: how many runs go side by side; a word of commands, not a key of a run."""

from __future__ import annotations

from collections.abc import Sequence

from fedfuse.errors import ConfigError

KEY = "workers"
MOST = 1000


def taken(words: Sequence[str]) -> tuple[int, list[str]]:
    """Return how many runs go side by side, 1 if no word says so, and the other words.

    >>> taken(["seed=0,1", "workers=2"])
    (2, ['seed=0,1'])
    """
    given = [word.partition("=")[2] for word in words if word.startswith(f"{KEY}=")]
    if len(given) > 1:
        raise ConfigError(f"'{KEY}' is given twice: {' and '.join(given)}.")
    rest = [word for word in words if not word.startswith(f"{KEY}=")]
    return count(KEY, given[0], 1) if given else 1, rest


def check_several(workers: int, sweep: bool) -> None:
    """Refuse several workers for one run.

    Raises:
        ConfigError: If there are several, and no sweep.
    """
    if workers > 1 and not sweep:
        raise ConfigError(
            f"{KEY}={workers} starts the runs of a sweep side by side, and this is one run",
            next_step="Add -m and write several values: seed=0,1. One run has engine=ray.",
        )


def count(key: str, value: str, least: int) -> int:
    """Return the integer that a word gives.

    Raises:
        ConfigError: If it is none, smaller than ``least``, or larger than :data:`MOST`.

    >>> count("trials", "8", 2)
    8
    """
    short = value.isascii() and value.isdigit() and len(value) <= len(str(MOST))
    if not short or not least <= int(value) <= MOST:
        raise ConfigError(
            f"{key} is not valid",
            got=repr(value[:40]),
            allowed=f"an integer from {least} to {MOST}",
        )
    return int(value)
