"""What a benchmark found, and the table of it."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Row = dict[str, Any]
"""One figure. Keys, as ``--json`` writes them:

``benchmark``  the module that measured it;
``key``        its name for programs, such as ``overhead_ratio``;
``what``       its name for people;
``value``      the figure; None if it could not be measured here;
``unit``       such as ``x`` (a ratio), ``s``, ``MiB``;
``bar``        what is asked of it, None for a figure without a bar;
``higher``     whether more is better;
``met``        whether the bar is met, None without a bar or a value;
``note``       on what it was measured, or why it was not.
"""


def row(
    benchmark: str,
    key: str,
    what: str,
    value: float | None,
    unit: str,
    *,
    bar: float | None = None,
    higher: bool = False,
    note: str = "",
) -> Row:
    """Return a row; ``value`` None says "not measured" and ``note`` why."""
    met = None
    if value is not None and bar is not None:
        met = value >= bar if higher else value <= bar
    return {
        "benchmark": benchmark,
        "key": key,
        "what": what,
        "value": value,
        "unit": unit,
        "bar": bar,
        "higher": higher,
        "met": met,
        "note": note,
    }


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text.

    >>> print(table([row("round", "r", "round / bare", 0.9, "x", bar=1.0)]))
    what          value  bar  met  note
    round / bare  0.9 x  ≤ 1  yes
    """
    lines = [("what", "value", "bar", "met", "note")]
    for entry in rows:
        value, bar, met = entry["value"], entry.get("bar"), entry.get("met")
        lines.append(
            (
                str(entry["what"]),
                "not measured" if value is None else f"{value:.3g} {entry.get('unit', '')}",
                "" if bar is None else f"{'≥' if entry.get('higher') else '≤'} {bar:g}",
                {None: "", True: "yes", False: "NO"}[met],
                str(entry.get("note", "")),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(line[:4], widths, strict=True)), line[4]]
        ).rstrip()
        for line in lines
    )


def in_turns(sides: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Call each side once per repeat, in alternating order; return what each call returned."""
    results: dict[str, list[T]] = {name: [] for name in sides}
    for repeat in range(repeats):
        names = list(sides) if repeat % 2 == 0 else list(sides)[::-1]
        for name in names:
            results[name].append(sides[name]())
    return results


def median_ratio(top: Sequence[float], bottom: Sequence[float]) -> float:
    """Return the median of ``top`` over that of ``bottom``."""
    return statistics.median(top) / statistics.median(bottom)


def peak_bytes() -> int:
    """Return this process's own peak memory.

    Not ``ru_maxrss``: a process inherits it from the one that started it, and a benchmark that
    runs after others would show theirs.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


class Arguments(argparse.Namespace):
    """What every benchmark is given."""

    mnist: Path | None
    old: Path | None = None
    repeats: int
    quick: bool
