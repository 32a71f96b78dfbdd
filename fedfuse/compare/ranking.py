"""Which method is best on which test, and whether that is certain, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedfuse.compare.comparison import Comparison
from fedfuse.compare.interval import Interval, bootstrap
from fedfuse.compare.points import signed, unsigned

Found = Mapping[str, Mapping[str, Comparison]]
"""Per test set (in words) and method its comparison with the baseline."""


def ranking(found: Found, baseline: str = "local training") -> str:
    """Return one sentence on one federation; empty without a comparison.

    "Certain" is what the 95% intervals over the seeds exclude 0 for: of the best method's gain
    over the baseline, and of its lead over the next method, paired by seed and client.
    """
    clauses = [_clause(test, methods, baseline) for test, methods in found.items() if methods]
    several = any(len(one.seeds) > 1 for methods in found.values() for one in methods.values())
    return _sentence(clauses, "" if several else ", but one seed makes nothing certain")


def ranking_over(federations: Sequence[Found], baseline: str = "local training") -> str:
    """Return one sentence on several federations: who beats the baseline in most, for certain."""
    clauses = []
    for test in dict.fromkeys(test for found in federations for test in found):
        of_method: dict[str, list[Comparison]] = {}
        for found in federations:
            for method, one in _speaking(found.get(test, {})).items():
                of_method.setdefault(method, []).append(one)
        if not of_method:
            clauses.append(f"on the {test} every test is too small to say")
            continue
        best = max(of_method, key=lambda name: _standing(of_method[name]))
        won, lost, mean = _standing(of_method[best])[1:]
        count = len(of_method[best])
        mean_gain = f"{signed(mean)} points in the mean"
        if won:
            text = f"{best} does best: for certain it beats {baseline} in {won} of {count} "
            text += f"federations and loses in {lost} ({mean_gain})"
        else:
            text = f"no method beats {baseline} for certain; {best} comes nearest: it wins "
            text += f"in 0 of {count} federations and loses in {lost} ({mean_gain})"
        clauses.append(f"on the {test} {text}")
    return _sentence(clauses)


def _speaking(methods: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Return the comparisons whose tests are large enough to say anything."""
    return {name: found for name, found in methods.items() if found.speaks}


def _sentence(clauses: Sequence[str], end: str = "") -> str:
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}{end}." if text else ""


def _standing(found: Sequence[Comparison]) -> tuple[int, int, int, float]:
    """Return what methods are ordered by: wins minus losses first, then the mean gain."""
    won = sum(one.significant and one.mean > 0 for one in found)
    lost = sum(one.significant and one.mean < 0 for one in found)
    return won - lost, won, lost, sum(one.mean for one in found) / len(found)


def _clause(test: str, methods: Mapping[str, Comparison], baseline: str) -> str:
    methods = _speaking(methods)
    if not methods:
        return f"on the {test} the tests are too small to say"
    order = sorted(methods, key=lambda name: -methods[name].mean)
    best, found = order[0], methods[order[0]]
    level = signed(found.mean) == "0.0"
    if level or found.mean < 0:
        away = "level with it" if level else f"{unsigned(found.mean)} points below"
        nearest = f"{best}, the nearest," if len(order) > 1 else best
        text = f"on the {test} no method is above {baseline}: {nearest} is {away}"
        return text + _surely([found.interval])
    text = f"on the {test} {best} is best, {signed(found.mean)} points over {baseline}"
    if len(order) == 1 or methods[order[1]].seeds != found.seeds:
        return text + _surely([found.interval])
    second = methods[order[1]]
    width = min(second.num_clients, found.num_clients)
    lead = found.gains[:, :width] - second.gains[:, :width]
    text += f" and {signed(found.mean - second.mean)} over {order[1]}"
    return text + _surely([found.interval, bootstrap(lead)])


def _surely(intervals: Sequence[Interval | None]) -> str:
    """Return whether one or two differences are certain, as the end of a clause."""
    certain = [interval is not None and interval.excludes_zero for interval in intervals]
    if intervals[0] is None:
        return ""
    if len(certain) == 1:
        return ", which is certain" if certain[0] else ", which is not certain"
    if certain[0] == certain[1]:
        return ", both certain" if certain[0] else ", neither certain"
    return f", only the {'first' if certain[0] else 'second'} of them certain"
