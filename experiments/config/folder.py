"""Where the configuration lies, and the order in which its options are shown."""

from __future__ import annotations

import re
from pathlib import Path

CONF = Path(__file__).parents[1] / "conf"


def natural(word: str) -> list[tuple[int, str]]:
    """Return the key that sorts k2 before k10.

    >>> sorted(["k10", "guard", "k2"], key=natural)
    ['guard', 'k2', 'k10']
    """
    parts = re.findall(r"\d+|\D+", word)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
