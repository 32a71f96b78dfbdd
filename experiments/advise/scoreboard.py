"""How good advice was on some maps, as tables and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.results import TESTS
from experiments.terminal.literal import literal
from experiments.terminal.tables import new_table
from fedfuse.advise.forecast import DIFFERENCE, LEVEL
from fedfuse.advise.score import POLICIES, Estimate, Score

TITLES = {
    "advice": "advice",
    "always": "always fuse",
    "never": "never fuse",
    "majority": "majority",
    "validation": "validation",
    "fedcollab": "FedCollab",
    "threshold": "size times heterogeneity",
}
WORDS = {
    "always": "always fusing",
    "never": "never fusing",
    "majority": "the majority",
    "validation": "the probe's validation alone",
    "fedcollab": "FedCollab's coalitions",
    "threshold": "a threshold of size times heterogeneity",
}
UNSEEN = {
    "data set": "a data set it was not fitted on",
    "left-out data set": "forecast by what was fitted on the other data sets",
    "seeds": "each seed forecast by what was fitted on the others",
}
LEVELS = {"federation": "federations", "client": "clients"}


def render(entry: Mapping[str, Any], scores: Mapping[tuple[str, str], Score]) -> None:
    """Print how an advisor did on one data set."""
    console = Console(highlight=False)
    unseen = UNSEEN[entry["unseen"]]
    console.print(
        literal(
            f"\n{entry['dataset']}: {entry['runs']} runs of {entry['federations']} federations, "
            f"{unseen}",
            "bold",
        )
    )
    for level, whose in LEVELS.items():
        for test, name in TESTS.items():
            found = scores[level, test]
            console.print(f"\n{whose}, {name}: {_came(found)}")
            console.print(_table(found))
            console.print(
                f"The {LEVEL:.0%} interval held {_percent(found.covered)}%. Brier score "
                f"{found.brier.mean:.2f}, of the frequencies before "
                f"{found.brier_majority.mean:.2f}."
            )
            console.print(conclusion(found))


def conclusion(found: Score) -> str:
    """Return whether following advice was worth it, never more than the intervals allow.

    An interval of the difference in regret that holds 0 shows nothing.
    """
    if found.federations < 2:
        return "One federation has no interval, so nothing is shown."
    others = [name for name in POLICIES if name != "advice"]
    worse = [name for name in others if found.better[name].high < 0]
    open_ = [name for name in others if name not in found.beaten and name not in worse]
    parts = []
    if found.beaten:
        parts.append(f"Following advice cost less than {_listed(found.beaten)}")
    if worse:
        parts.append(f"{'it' if parts else 'Following advice'} cost more than {_listed(worse)}")
    if open_:
        words = f"no difference from {_listed(open_)} is shown"
        parts.append(words if parts else words[0].upper() + words[1:])
    return "; ".join(parts) + " (95%)."


def _listed(names: Any) -> str:
    words = [WORDS[name] for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _came(found: Score) -> str:
    helped, none, harmed = (round(100 * share) for share in found.outcomes)
    return (
        f"fusing gained more than {100 * DIFFERENCE:g} point for {helped}%, lost more than that "
        f"for {harmed}%, neither for {none}% of {found.cases}. Advice named an outcome for "
        f"{round(100 * found.answered)}%."
    )


def _table(found: Score) -> Table:
    table = new_table()
    table.add_column("")
    for title in ("right outcome, %", "better side, %", "regret, points"):
        table.add_column(title, justify="right", no_wrap=True)
    for name in POLICIES:
        own = _percent(found.right[name]), _percent(found.side[name]), _points(found.regret[name])
        table.add_row(TITLES[name], *own)
    return table


def _percent(found: Estimate) -> str:
    return _format_estimate(found, 0)


def _points(found: Estimate) -> str:
    return _format_estimate(found, 2)


def _format_estimate(found: Estimate, digits: int) -> str:
    if not math.isfinite(found.mean):
        return "-"
    low, mean, high = (f"{100 * v:.{digits}f}" for v in (found.low, found.mean, found.high))
    return f"{mean} [{low}, {high}]"
