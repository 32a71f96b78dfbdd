"""The map of a report: the gain over the two properties that its federations differ in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.config.comparison_keys import is_fusion_only
from experiments.report.figure import Figure, Numbers
from experiments.report.figures.gain_map import gain_map
from experiments.report.layout import PANEL
from experiments.results import TESTS, Compared, RunGroup, against, flatten, text, varying
from fedfuse.compare import ENOUGH

_NAMES = {"partitioner.alpha": "Dirichlet α", "partitioner.sizes": "samples per client"}


def map_figure(
    found: Sequence[RunGroup],
    done: Sequence[Sequence[Compared]],
    keys: Sequence[str] | None = None,
    title: str = "Where fusion wins",
    width: float = PANEL,
) -> Figure | None:
    """Return the map; None if the federations differ in nothing, or in more than two things.

    There is none either where they differ in a part that only some have, as in the size of a subset
    of the public samples that one method takes: that has no place on an axis.

    Args:
        found: The line-ups.
        done: The comparisons of each.
        keys: What to draw upwards and across; what the federations differ in if None.
        title: Its heading.
        width: Of a panel, in pixels.
    """
    flat = [flatten(next(iter(run_group.methods.values()))[0].config) for run_group in found]
    if keys is None:
        keys = [key for key in varying(flat) if key != "seed" and not is_fusion_only(key)]
    everywhere = all(key in own for own in flat for key in keys)
    if not 1 <= len(keys) <= 2 or not everywhere or not any(done):
        return None
    across, up = keys[-1], keys[0] if len(keys) == 2 else None
    columns = _values([own[across] for own in flat])
    rows = _values([own[up] for own in flat]) if up else [""]
    strongest = {
        test: max(
            (
                abs(i.found.mean)
                for items in done
                for i in items
                if i.test == test and i.found.speaks
            ),
            default=0,
        )
        for test in TESTS
    }
    panels, numbers = [], []
    places = dict.fromkeys((i.method, i.test, i.over) for items in done for i in items)
    several = len({over for _, _, over in places}) > 1
    for method, test, over in places:
        gains = np.full((len(rows), len(columns)), np.nan)
        shown = np.zeros(gains.shape, dtype=bool)
        bounds = np.full((*gains.shape, 2), np.nan)
        for own, items in zip(flat, done, strict=True):
            at = (rows.index(own[up]) if up else 0, columns.index(own[across]))
            for item in items:
                if (item.method, item.test, item.over) == (method, test, over):
                    shown[at] = item.found.significant
                    if item.found.speaks:
                        gains[at] = item.found.mean
                    if (interval := item.found.interval) is not None:
                        bounds[at] = interval.low, interval.high
                    place = (method, test, own[up] if up else None, own[across])
                    row = (*place, item.found.mean, *bounds[at], shown[at])
                    numbers.append((*row, over) if several else row)
        panels.append(
            gain_map(
                gains,
                shown,
                columns=(_NAMES.get(across, across), [_format_value(value) for value in columns]),
                rows=(
                    _NAMES.get(up or "", up or ""),
                    [_format_value(value) if up else "" for value in rows],
                ),
                title=f"{method}{f' over {over}' * several}: {TESTS[test]}",
                strongest=strongest[test],
                bounds=bounds,
                width=width,
            )
        )
    alone = against([item for items in done for item in items])
    names = ("method", "test", up or "row", across, "gain", "low", "high", "shown")
    return Figure(
        "map",
        title,
        f"A cell per federation, with the mean gain over {alone} in points and its 95% "
        "interval. Blue is a gain, "
        "orange a loss, the stronger the larger on its test set. In hatched cells no difference is "
        "shown (the 95% interval holds zero, or there is one seed); an empty cell's tests hold "
        f"fewer than {ENOUGH} samples. The thick line is drawn around "
        f"the cells in which {alone} has the higher mean.",
        tuple(panels),
        Numbers((*names, "over") if several else names, tuple(numbers)),
    )


def _format_value(value: object) -> str:
    """Return a value as one reads it; 5.0 is 5."""
    return f"{value:g}" if isinstance(value, float) else text(value)


def _values(found: Sequence[object]) -> list[object]:
    """Return the different values, ascending if they are numbers, else in the order they come."""
    different = list(dict.fromkeys(found))
    if all(isinstance(value, int | float) for value in different):
        return sorted(different, key=float)  # type: ignore[arg-type]
    return different
