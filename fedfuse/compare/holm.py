"""Which of many comparisons stay certain once it is counted how many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedfuse.compare.comparison import Comparison
from fedfuse.compare.interval import p_value
from fedfuse.errors import require

NAMED = 12
"""So many comparisons that a correction takes away are named."""


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979), in the order they came.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none is below one that was
    smaller before, or above 1. To reject what is at most ``alpha`` afterwards keeps the probability
    of any false rejection at ``alpha``, however the tests depend on each other.

    Args:
        p_values: Of one page's comparisons, each 0 to 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    inside = bool(((values >= 0) & (values <= 1)).all())  # NaN is not
    require(inside, "holm", "p_values", list(p_values), "numbers of 0 to 1")
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(steps, 1.0)
    return [float(value) for value in corrected]


def certain_together(found: Sequence[Comparison], level: float = 0.95) -> list[bool]:
    """Tell which comparisons of one page are certain after Holm's correction for their number.

    Those count that have an interval; of the others none is certain. Corrected verdicts are some
    of the uncorrected ones: a comparison whose own interval holds 0 never comes back.

    Args:
        found: All comparisons that a reader sees together.
        level: One minus the probability of any false "certain" among them.
    """
    judged = [
        (i, p)
        for i, one in enumerate(found)
        if one.interval is not None and (p := p_value(one.gains)) is not None
    ]
    certain = [False] * len(found)
    for (i, _), corrected in zip(judged, holm([p for _, p in judged]), strict=True):
        certain[i] = found[i].significant and corrected <= 1 - level
    return certain


def count_judged(found: Sequence[Comparison]) -> int:
    """Return for how many comparisons :func:`certain_together` corrects."""
    return sum(one.interval is not None for one in found)


def corrected(named: Sequence[tuple[str, Comparison | None]]) -> str:
    """Return a sentence on what stays certain after Holm's correction for all of a page.

    Args:
        named: Every comparison of the page, and what a reader calls it.
    """
    there = [(name, found) for name, found in named if found is not None]
    found = [one for _, one in there]
    count, before = count_judged(found), sum(one.significant for one in found)
    if not count:
        return "No comparison of this page has an interval, so none is certain."
    kept = certain_together(found)
    lost = [name for (name, one), stays in zip(there, kept, strict=True) if one.significant > stays]
    text = f"Corrected for the {count} comparisons of this page (Holm, 5%): of {before} that are "
    text += f"certain by their own interval, {sum(kept)} stay certain"
    if not lost:
        return f"{text}."
    more = f"; and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    return f"{text}. No longer: {'; '.join(lost[:NAMED])}{more}."
