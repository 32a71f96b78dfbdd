"""A comparison in plain words that never claim more than its numbers allow."""

from __future__ import annotations

from collections.abc import Sequence

from fedfuse.compare.comparison import Comparison
from fedfuse.compare.outcomes import ENOUGH
from fedfuse.compare.points import signed, unsigned

ONE_SEED = "With one seed there is no interval:"
"""How the verdict on one seed begins."""

NAMED = 6
"""So many harmed clients are named; of more, only the number is told."""


def verdict(comparison: Comparison, method: str, baseline: str = "local training") -> str:
    """Return one or two sentences: the mean gain and its interval, who was helped, who harmed.

    "helps" and "harms" in the first sentence need an interval that excludes 0. Of single clients
    it says so only beyond the sampling error of their test sets. Tests of fewer than
    :data:`ENOUGH` samples count for nothing.
    """
    found = comparison
    if not found.speaks:
        return (
            f"No verdict between {method} and {baseline}: {_small(found)}. Use a larger test set."
        )
    several = len(found.seeds) > 1
    where = f"{len(found.seeds)} seeds" if several else f"seed {found.seeds[0]}"
    if found.interval is None:
        first = (
            f"{ONE_SEED} {method} is {_away(found.mean)} {baseline} "
            f"on average over {found.compared} clients."
        )
    else:
        bounds = f"[{signed(found.interval.low)}, {signed(found.interval.high)}]"
        level = f"{100 * found.interval.level:.0f}%"
        if found.significant:
            verb = "beats" if found.mean > 0 else "loses to"
            first = (
                f"{method} {verb} {baseline} by {unsigned(found.mean)} points on average "
                f"{bounds} ({level}, {where})."
            )
        else:
            first = (
                f"No difference is shown between {method} and {baseline}: {signed(found.mean)} "
                f"points on average {bounds} ({level}, {where})."
            )
    text = f"{first} {_clients(found, several=several)}"
    return f"{text} Not counted: {_small(found)}." if found.too_small else text


def _small(found: Comparison) -> str:
    """Return how many tests are too small, and how small."""
    sizes, count = found.too_small, len(found.too_small)
    clients = "1 client is" if count == 1 else f"{count} clients are"
    held = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    return f"{clients} tested on {held} samples, fewer than {ENOUGH}"


def _away(gain: float) -> str:
    if signed(gain) == "0.0":
        return "level with"
    return f"{unsigned(gain)} points {'above' if gain > 0 else 'below'}"


def _clients(found: Comparison, *, several: bool) -> str:
    """Return who was helped and who harmed, for certain."""
    if not found.judged:
        return "The sizes of the clients' tests are not on record, so no single client is judged."
    if found.helped == found.harmed == 0:
        each = f" ({found.num_clients} in each seed)" if several else ""
        return f"None of the {found.compared} clients{each} changed by more than its test's error."
    unit = "clients (each seed's counted)" if several else "clients"
    text = f"It helps {found.helped or 'none'} of {found.compared} {unit}"
    if not found.harmed:
        return f"{text} beyond the error of their tests, and harms none."
    harmed = found.harmed_clients()
    if len(harmed) > NAMED:
        return f"{text} and harms {len(harmed)}."
    return f"{text} and harms {_listed(harmed, several=several)}."


def _listed(harmed: Sequence[tuple[int, int]], *, several: bool) -> str:
    if not several:
        ids = [str(client) for _, client in harmed]
        return f"client{'s' if len(ids) > 1 else ''} {_and(ids)}"
    return _and([f"client {client} of seed {seed}" for seed, client in harmed])


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
