"""From a line-up of runs to its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.report import axes, theme
from experiments.report.figure import Figure, Numbers, chosen
from experiments.report.figures.curves import Series, curves
from experiments.report.figures.labels import label_map
from experiments.report.figures.times import phase_keys, time_bars
from experiments.report.gained import gains_figure
from experiments.report.heard import heard_by_class, who_is_heard
from experiments.report.layout import PANEL, Layout
from experiments.report.lines import Looks, format_band, keys_of, line_of, rows_of, stacked
from experiments.report.theme import look
from experiments.results import TESTS, Arm, Compared, RunGroup, entrants
from fedfuse.compare import ADJUSTED, LOCAL, POST_HOC


def looks(run_groups: Sequence[RunGroup]) -> dict[str, tuple[str, str]]:
    """Give every method a colour and a stroke; ways of training alone are grey and dashed."""
    style = dict(zip((LOCAL, ADJUSTED, POST_HOC), theme.ALONE, strict=True))
    names: dict[str, None] = {}
    for run_group in run_groups:
        for name, sides in entrants(run_group).items():
            if not any(side.alone for side in sides.values()):
                names[name] = None
            elif name not in style:  # of several priors
                style[name] = style[POST_HOC if name.startswith(POST_HOC) else ADJUSTED]
    return style | {name: look(i) for i, name in enumerate(names)}


def figures(
    run_group: RunGroup,
    done: Sequence[Compared],
    number: int,
    style: Looks,
    most_frames: int,
    layout: Layout,
) -> Iterator[Figure]:
    """Yield the figures of a line-up.

    Args:
        run_group: The runs.
        done: Their comparisons with local training.
        number: Which line-up of the report it is, from 1; 0 if it is the only one.
        style: From :func:`looks`.
        most_frames: Rounds of which the weights are drawn, at most.
        layout: How large panels are.
    """
    width = layout.panel
    suffix = f"-{number}" if number else ""
    yield from _some(_curves(run_group, style, suffix, width))
    yield from _some(gains_figure(done, suffix, width))
    yield from _some(_labels(run_group, suffix, layout.whole))
    taken: set[str] = set()
    for i, (name, runs) in enumerate(run_group.methods.items()):
        slug = re.sub(r"\W+", "_", name).strip("_")[:80]  # a file has to be called so
        slug = f"m{i}" if slug in taken or not slug.isascii() or not slug else slug
        taken.add(slug)
        for figure in (who_is_heard, heard_by_class):
            yield from _some(figure(name, runs[0], most_frames, f"{suffix}-{slug}", width))
    yield from _some(_neighbours(run_group, style, suffix, width))
    yield from _some(_traffic(run_group, style, suffix, width))
    yield from _some(_time(run_group, suffix, layout.whole))


def _some(figure: Figure | None) -> tuple[Figure, ...]:
    return () if figure is None else (figure,)


def _curves(run_group: RunGroup, style: Looks, suffix: str, width: float) -> Figure | None:
    arms = arms_of(run_group)
    panels, rows = [], []
    for test, words in TESTS.items():
        lines = [line_of(name, found, test, style, 100.0) for name, found in arms.items()]
        lines = [line for line in lines if np.isfinite(line.values).any()]
        if not lines:
            continue
        panels.append(
            curves(lines, title=f"Tested on: {words}", y_label="mean accuracy, %", width=width)
        )
        rows += rows_of(test, lines, 0.01)
    if not panels:
        return None
    return Figure(
        f"curves{suffix}",
        "Accuracy by round",
        "Each line is the mean over the clients, after both training phases of a round. "
        + format_band(arms),
        tuple(panels),
        Numbers(("test", "method", "round", "seed_number", "accuracy"), tuple(rows)),
        keys_of(arms, style),
    )


def _labels(run_group: RunGroup, suffix: str, width: float) -> Figure | None:
    run = next(iter(run_group.methods.values()))[0]
    if not run.counts.any():  # hosts with their own data do not tell who holds what
        return None
    return labels_figure(run.counts, f"Seed {run.seed}; other seeds deal anew.", suffix, width)


MOST_LABELLED = 200
"""With more clients than this, so many of them have a row."""


def labels_figure(
    counts: npt.NDArray[np.integer],
    origin: str,
    suffix: str = "",
    width: float = PANEL,
    title: str | None = None,
) -> Figure:
    """Return who holds which classes.

    Args:
        counts: [K, C], training samples per client and class.
        origin: Where the partition comes from, in a sentence.
        suffix: What tells its name from those of other federations.
        width: Pixels of the panel.
        title: Of the panel; the number of clients if None.
    """
    by_size = np.argsort(counts.sum(axis=1), kind="stable")
    many = len(counts) > MOST_LABELLED
    ids = by_size[chosen(len(counts), MOST_LABELLED)].tolist() if many else list(range(len(counts)))
    rows = [(ids[k], c, int(n)) for (k, c), n in np.ndenumerate(counts[ids])]
    title = title or f"Training samples, {len(counts)} clients"
    some = (
        f"Of {len(counts):,} clients {len(ids)} are drawn, from the one with the fewest samples to "
        "the one with the most, in even steps of rank. "
    )
    return Figure(
        f"labels{suffix}",
        "Who holds which classes",
        "A row per client, a column per class: the stronger the colour, the larger the class's "
        "share of the client's training samples, on one scale from 0 to 100%. The bar is how many "
        f"samples it has. {some if many else ''}{origin}",
        (label_map(counts[ids], title=title, ids=ids, width=width),),
        Numbers(("client", "class", "samples"), tuple(rows)),
        columns=1,
    )


def _neighbours(run_group: RunGroup, style: Looks, suffix: str, width: float) -> Figure | None:
    measures = {
        "self_weight": ("Self-weight", "weight of one's own knowledge", 0.05),
        "effective_neighbours": (
            "Effective neighbours",
            "clients, exp of the weights' entropy",
            0.5,
        ),
    }
    arms = {name: [run.arm for run in runs] for name, runs in run_group.methods.items()}
    panels, rows = [], []
    for metric, (title, y_label, least) in measures.items():
        lines = [line_of(name, own, metric, style, 1.0, "fuse") for name, own in arms.items()]
        lines = [line for line in lines if np.isfinite(line.values).any()]
        if lines:
            panels.append(
                curves(lines, title=title, y_label=y_label, least=least, floor=0.0, width=width)
            )
            rows += rows_of(metric, lines, 1.0)
            fused = [line.label for line in lines]
    if not panels:
        return None
    arms = {name: arms[name] for name in fused}
    return Figure(
        f"neighbours{suffix}",
        "How far clients listen to others",
        "Means over the clients. A self-weight of 1 is learning alone; as many effective "
        "neighbours as there are clients is plain averaging, which has no matrix of its own here. "
        + format_band(arms),
        tuple(panels),
        Numbers(("measure", "method", "round", "seed_number", "value"), tuple(rows)),
        keys_of(arms, style),
    )


def _traffic(run_group: RunGroup, style: Looks, suffix: str, width: float) -> Figure | None:
    quiet = arms_of(run_group, alone=True)
    talking = {
        name: [run.arm for run in runs]
        for name, runs in run_group.methods.items()
        if any(run.arm.traffic.sum() > 0 for run in runs)
    }
    if not talking:
        return None
    furthest = max(arm.traffic.sum() for arms in talking.values() for arm in arms)
    panels, rows = [], []
    for test, words in TESTS.items():
        lines = []
        for name, arms in quiet.items():
            level = 100 * np.repeat(stacked(arms, test)[1][:, -1:], 2, axis=1)
            lines.append(Series(name, *style[name], np.array([0.0, furthest]), level))
        for name, arms in talking.items():
            _, values = stacked(arms, test)
            sent = np.mean([np.cumsum(arm.traffic) for arm in arms], axis=0)
            lines.append(Series(name, *style[name], sent, 100 * values))
        lines = [line for line in lines if np.isfinite(line.values).any()]
        if lines:
            panel = curves(
                lines,
                title=f"Tested on: {words}",
                y_label="mean accuracy, %",
                x_label="sent in total, up and down",
                x_text=axes.size,
                whole=False,
                width=width,
            )
            panels.append(panel)
            rows += rows_of(test, lines, 0.01)
    if not panels:
        return None
    drawn = quiet | talking
    levels = "The dashed line is local training's last round"
    if len(quiet) > 1:
        levels = "Dashed grey lines are the last rounds of training alone"
    return Figure(
        f"traffic{suffix}",
        "Accuracy against bytes",
        "A line runs through the rounds of a method: the further left and up, the more accuracy "
        "for its bytes. Bytes are those of all clients together, up and down, since the first "
        f"round. {levels}, which sends nothing. " + format_band(drawn),
        tuple(panels),
        Numbers(("test", "method", "bytes", "seed_number", "accuracy"), tuple(rows)),
        keys_of(drawn, style),
    )


def _time(run_group: RunGroup, suffix: str, width: float) -> Figure | None:
    bars: dict[str, dict[str, float]] = {}
    for name, runs in run_group.methods.items():
        spent: list[Mapping[str, Any]] = [run.summary.get("seconds") or {} for run in runs]
        phases = dict.fromkeys(phase for own in spent for phase in own)
        bars[name] = {p: float(np.mean([own.get(p, 0.0) for own in spent])) for p in phases}
    bars = {name: bar for name, bar in bars.items() if bar}
    if not bars:
        return None
    rows = [(name, phase, value) for name, bar in bars.items() for phase, value in bar.items()]
    return Figure(
        f"time{suffix}",
        "Time by phase",
        "Wall time of the method's own rounds, a mean over its seeds, without start-up and "
        "without the baseline. It depends on the machine and on what else ran there.",
        (time_bars(bars, title="Seconds of a run", width=width),),
        Numbers(("method", "phase", "seconds"), tuple(rows)),
        phase_keys(list(bars.values())),
        columns=1,
    )


def arms_of(run_group: RunGroup, *, alone: bool = False) -> dict[str, list[Arm]]:
    """Return everything with an accuracy, an arm a seed; on request only what trains alone."""
    return {
        name: [side.arm for side in sides.values()]
        for name, sides in entrants(run_group).items()
        if not alone or any(side.alone for side in sides.values())
    }
