"""The figures of gains: the forest plot, and every client's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from experiments.report.figure import Figure, Numbers
from experiments.report.figures.forest import Row, forest
from experiments.report.figures.gains import KEYS, gain_strip, span_of
from experiments.report.layout import PANEL
from experiments.report.lines import Looks
from experiments.report.verdicts import numbers_of
from experiments.results import TESTS, Compared, against
from fedfuse.compare import CONTROLS, ENOUGH, HARMED, HELPED


def forest_figure(
    done: Sequence[Compared],
    style: Looks,
    suffix: str = "",
    width: float = PANEL,
    name: Callable[[Compared], str] = lambda item: item.method,
) -> Figure | None:
    """Return the main figure: every gain with its interval, a panel a test set.

    Args:
        done: What was compared.
        style: How methods look.
        suffix: Of its name.
        width: Of a panel, in pixels.
        name: What a gain is called.
    """
    everything, done = done, [item for item in done if item.found.speaks]
    kinds = dict.fromkeys(item.over for item in everything)
    panels = []
    for over, (test, words) in itertools.product(kinds, TESTS.items()):
        rows = [
            Row(
                name(item),
                *style[item.method],
                item.found.mean,
                item.found.bounds,
                item.found.significant,
            )
            for item in done
            if (item.test, item.over) == (test, over)
        ]
        if rows:
            what = f"Gain over {over}" if len(kinds) > 1 else "Gain"
            title = f"{what}, tested on: {words}"
            panels.append(forest(rows, title=title, over=CONTROLS[over], width=width))
    if not panels:
        return None
    several = any(len(item.found.seeds) > 1 for item in done)
    return Figure(
        f"forest{suffix}",
        f"Gain over {against(everything)}",
        "The mean gain in points of test accuracy at the last round, the largest on top, with its "
        "95% interval over the seeds. A filled dot and bold type are certain: the interval "
        "excludes zero. A hollow dot is not."
        + ("" if several else " One seed has no interval, so nothing is certain.")
        + (f" Tests of fewer than {ENOUGH} samples are left out." if _few(everything) else ""),
        tuple(panels),
        numbers_of(
            everything,
            ("federation", "method", "test", "gain", "low", "high", "certain"),
            lambda item: (
                *(item.federation, item.method, item.test, item.found.mean),
                *(item.found.bounds or (None, None)),
                item.found.significant,
            ),
        ),
    )


def _few(done: Sequence[Compared]) -> bool:
    return any(item.found.too_small for item in done)


def gains_figure(done: Sequence[Compared], suffix: str = "", width: float = PANEL) -> Figure | None:
    """Return who gained and who lost: a panel per method and test set; None without any."""
    everything = [item for item in done if not item.alone] or done
    done = [item for item in everything if item.found.speaks]
    if not done:
        return None
    # One scale per test, so that methods can be compared by eye.
    spans = {test: span_of([i.found.gains for i in done if i.test == test]) for test in TESTS}
    kinds = dict.fromkeys(item.over for item in done)
    panels = [
        gain_strip(
            item.found.gains,
            item.found.outcomes,
            title=f"{item.method}{f' over {item.over}' * (len(kinds) > 1)}: {TESTS[item.test]}",
            seeds=item.found.seeds,
            span=spans[item.test],
            width=width,
        )
        for item in done
    ]
    words = {HELPED: "helped", HARMED: "harmed"}
    rows = [
        (
            *(item.test, item.method, seed, client, item.found.gains[s, client]),
            words.get(int(item.found.outcomes[s, client]), "undecided"),
            *((item.over,) if len(kinds) > 1 else ()),
        )
        for item in done
        for s, seed in enumerate(item.found.seeds)
        for client in range(item.found.num_clients)
    ]
    several = any(len(item.found.seeds) > 1 for item in done)
    columns = ("test", "method", "seed", "client", "gain", "outcome")
    return Figure(
        f"gains{suffix}",
        "Who gained and who lost",
        f"A stem per client, from {against(done)} (the zero line) to the method, in points of test "
        "accuracy at the last round; clients are ordered by it, so their order differs between "
        "panels. Grey is within the error of the client's own test set."
        + (
            " Every seed deals the data out anew, so the clients of all seeds stand beside each "
            "other; none is averaged with another."
            if several
            else ""
        )
        + (f" Tests of fewer than {ENOUGH} samples are left out." if _few(everything) else "")
        + ("" if all(i.found.judged for i in done) else " Grey too: tests of unknown size."),
        tuple(panels),
        Numbers((*columns, "over") if len(kinds) > 1 else columns, tuple(rows)),
        KEYS,
    )
