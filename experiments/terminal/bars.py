"""Counts as a row of bars."""

from __future__ import annotations

from collections.abc import Sequence

BARS = " ▁▂▃▄▅▆▇█"


def bars(counts: Sequence[int]) -> str:
    """Return a character for each count, a full block for the largest and a blank only for none.

    >>> bars([0, 1, 8]), bars([])
    (' ▁█', '')
    """
    top = max(counts, default=0) or 1
    return "".join(BARS[-(-8 * count // top)] for count in counts)
