"""The closing table: whether fusion beat local training, for whom, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.summary import arms_table
from experiments.summary.arm_rows import TESTS
from experiments.summary.arms_table import short
from experiments.summary.client_lines import ClientLine
from experiments.summary.moments import Figures, Moment
from experiments.summary.summary import Summary, summarise
from experiments.terminal.bars import bars as bar_row
from experiments.terminal.literal import literal
from experiments.terminal.tables import new_table
from fedfuse.compare import BRIEF, ENOUGH, outcomes
from fedfuse.safe_text import visible
from server.reporters.figures import named, percent, points

__all__ = ["Summary", "render", "summarise"]

MOST_CLIENTS = 20
"""With more clients than this their lines are left out; ``metrics.parquet`` has them all."""

NAMES = {"accuracy_own": "own distribution", "accuracy_global": "balanced"}
SPREAD = (
    "own: tests with the client's own mix of classes; balanced: one test set for all\n"
    "mean, worst (lowest) and std are over the clients"
)
LEGEND = f"{SPREAD}; helped/harmed: clients whose\ngain or loss is larger than their test's error"
"""What the columns and rows of the table are."""


def render(summary: Summary, console: Console, folder: Path | None = None) -> None:
    """Print the closing table, the clients and the path of the run folder."""
    console.print()
    if summary.last is None:
        console.print("The run ended before its first evaluation.")
    else:
        console.print(_fitting(_arms(summary), console))
        console.print(literal(_legend(summary), style="dim"))
        console.print(_costs(summary))
        if summary.num_clients <= MOST_CLIENTS:
            console.print(_fitting(_clients(summary, summary.clients, console), console))
        elif summary.extremes:
            console.print(_fitting(_clients(summary, summary.extremes, console), console))
    if folder is not None:
        console.print(literal(f"run folder: {folder}"), soft_wrap=True)


def _fitting(table: Table, console: Console) -> Table:
    """Return a table, its columns closer together where words or numbers would else be cut."""
    wide = console.options.update(width=10 * console.width)
    if console.measure(table, options=wide).maximum > console.width:
        table.padding = 0
    return table


def _legend(summary: Summary) -> str:
    if summary.controls:
        return arms_table.legend(summary)
    return LEGEND if summary.baseline else SPREAD


def _arms(summary: Summary) -> Table:
    alone = [control.name for control in summary.controls] or filter(None, [summary.baseline])
    against = f" against {visible(names)}" if (names := " and ".join(alone)) else ""
    about = f"{summary.dataset} · {summary.partitioner} · {summary.num_clients} clients"
    about = visible(f"{about} · {summary.model}")
    title = f"{visible(summary.method)}{against}: test accuracy in %\n{about}"
    table = new_table(title)
    if summary.controls:
        arms_table.fill(table, summary)
        return table
    table.add_column("test set", no_wrap=True)
    table.add_column("samples", justify="right", no_wrap=True)
    other = f"\n({short(summary.baseline)})" if summary.baseline else ""
    table.add_column(literal(f"round{other}"), justify="right", no_wrap=True)
    if summary.baseline:
        table.add_column(literal(f"{short(summary.baseline)}\nmean"), justify="right")
    for name in ("mean", "worst", "std"):
        first = short(summary.method) if name == "mean" else ""
        table.add_column(literal(f"{first}\n{name}"), justify="right")
    if summary.baseline:
        table.add_column("\ngain", justify="right")
        table.add_column("helped\n/harmed", justify="right")
    for moment, label in ((summary.last, ""), (summary.best_validation, "best validation")):
        if moment is None:
            continue
        if label:
            table.add_section()
            table.add_row(Text(label, style="dim"))
        for test in TESTS:
            if test in moment.tests:
                table.add_row(*_row(test, moment, summary.baseline is not None))
    return table


def _row(test: str, moment: Moment, baseline: bool) -> list[str | Text]:
    figures: Figures = moment.tests[test]
    rounds = str(moment.round)
    if baseline and moment.baseline_round not in (None, moment.round):
        rounds = f"{moment.round} ({moment.baseline_round})"
    spread = [percent(figures.mean), percent(figures.worst), percent(figures.std)]
    if not baseline:
        return [NAMES[test], arms_table.tested_on(figures), rounds, *spread]
    counts = "-" if figures.helped is None else f"{figures.helped}/{figures.harmed}"
    gain = _gain(figures.gain, judged=not figures.too_small)
    return [
        NAMES[test],
        arms_table.tested_on(figures),
        rounds,
        percent(figures.baseline_mean),
        *spread,
        gain,
        counts,
    ]


def _warnings(summary: Summary) -> list[str]:
    """Return what is not to be concluded, because too few samples stand behind it."""
    lines = []
    for test, label in NAMES.items():
        found = summary.last.tests.get(test) if summary.last is not None else None
        if found is not None and found.too_small:
            small = set(found.too_small)
            sizes = [c.test_samples[test] for c in summary.clients if c.client_id in small] or [
                found.smallest_test or 0,
                min(found.largest_test or 0, ENOUGH - 1),
            ]
            everybody = len(small) == summary.num_clients
            who = "all clients" if everybody else named(found.too_small)
            held = str(min(sizes)) if len(set(sizes)) == 1 else f"{min(sizes)} to {max(sizes)}"
            lines.append(f"{label}: {who} tested on {held} samples, below {ENOUGH}: no verdict")
    held_back = summary.validation_samples
    if held_back is not None and held_back < ENOUGH:
        lines.append(
            f"no best validation round: all clients hold back {held_back} samples (below {ENOUGH})"
        )
    return lines


def _costs(summary: Summary) -> Text:
    lines = _warnings(summary)
    if summary.self_weight is not None and summary.effective_neighbours is not None:
        lines.append(
            f"self-weight {summary.self_weight:.2f}, effective neighbours "
            f"{summary.effective_neighbours:.1f} of {summary.num_clients} (last fusion)"
        )
    if summary.server is not None:
        accuracy = percent(summary.server).strip()
        lines.append(f"the server's own model: {accuracy}% on the balanced test set")
    if summary.server_steps is not None:
        lines.append(f"server steps: {summary.server_steps:,} in all rounds, beside the clients'")
    if summary.pretrained is not None:
        lines.append(summary.pretrained.line())
    if summary.spending is not None:
        lines += summary.spending.lines()
    sent = f"sent up {_size(summary.bytes_up)}, down {_size(summary.bytes_down)}"
    if summary.seconds:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in summary.seconds.items())
        sent += f"; {sum(summary.seconds.values()):.1f} s ({parts})"
    lines.append(sent)
    if summary.last is not None:
        lines += [
            f"{name}: {100 * found.newly_right:.1f}% newly right, {100 * found.newly_wrong:.1f}% "
            f"newly wrong; calibration error {percent(found.baseline_ece).strip()} -> "
            f"{percent(found.ece).strip()}"
            for name, test in (("own", "accuracy_own"), ("balanced", "accuracy_global"))
            if (found := summary.last.tests.get(test)) is not None
            and found.newly_right is not None
            and found.newly_wrong is not None
        ]
    lines += [domain.line() for domain in summary.domains]
    lines += _quantiles(summary)
    if summary.probed is not None:
        lines += summary.probed.lines()
    if summary.faults is not None:
        lines.append(summary.faults.line())
    if summary.rested is not None:
        lines += summary.rested.lines()
    if summary.break_even is not None:
        lines.append(summary.break_even.line())
    if summary.left_out is not None:
        lines += summary.left_out.lines()
    if summary.guard is not None:
        lines.append(summary.guard.line())
    if summary.attack is not None:
        lines.append(summary.attack.line())
    if summary.privacy is not None and (told := summary.privacy.line()):
        lines.append(told)
    if summary.membership is not None:
        lines += summary.membership.lines()
    return literal("\n".join(lines))


def _quantiles(summary: Summary) -> list[str]:
    """Return how the clients are spread, where they are too many for a line each."""
    lines = []
    for name, test in (("own", "accuracy_own"), ("balanced", "accuracy_global")):
        sides = summary.quantiles.get(test, {})
        side = "gain" if "gain" in sides else "accuracy"
        if side in sides:
            show = points if side == "gain" else percent
            told = ", ".join(f"{q} {show(v).strip()}" for q, v in sides[side].items())
            lines.append(f"{name}, {side} by share of the clients:\n  {told}")
    return lines


def _clients(summary: Summary, shown: Sequence[ClientLine], console: Console) -> Table:
    some = len(shown) < summary.num_clients
    table = new_table("clients that lost and gained most" if some else "clients")
    bars = not console.options.ascii_only and any(c.class_counts for c in shown)
    table.add_column("id", justify="right")
    if bars:
        table.add_column("labels", no_wrap=True)
    controls = [control.name for control in summary.controls[1:]]
    table.add_column("sam-\nples" if controls else "samples", justify="right")
    if not controls:  # there is no room for everything
        table.add_column("classes", justify="right")
    for name in ("own", "balanced"):
        first = literal(f"{name}\n{short(summary.baseline or summary.method)}")
        table.add_column(first, justify="right")
        if summary.baseline:
            method = literal(f"\n{short(summary.method, 8 if controls else 7)}")
            table.add_column(method, justify="right")
            table.add_column("\ngain", justify="right")
        for control in controls:
            table.add_column(literal(f"over\n{BRIEF.get(control, control)}"), justify="right")
    for client in shown:
        table.add_row(*_client(client, controls, bars=bars, baseline=bool(summary.baseline)))
    return table


def _client(
    client: ClientLine, controls: Sequence[str], *, bars: bool, baseline: bool
) -> list[str | Text]:
    counts = client.class_counts
    cells: list[str | Text] = [str(client.client_id)]
    if bars:
        cells.append(bar_row(counts) if len(counts) <= 20 else "")
    cells.append(str(sum(counts)) if counts else "-")
    if not controls:
        cells.append(str(sum(n > 0 for n in counts)) if counts else "-")
    for test in TESTS:
        if baseline:
            cells.append(percent(client.baseline.get(test)))
        cells.append(percent(client.accuracy.get(test)))
        if baseline:
            cells.append(_gain_of(client, client.gain, test))
        cells += [_gain_of(client, client.over[control], test) for control in controls]
    return cells


def _gain_of(client: ClientLine, gains: Mapping[str, float], test: str) -> Text:
    """Return a client's gain or loss, in colour if it is larger than the error of its test."""
    gain, size = gains.get(test), client.test_samples.get(test)
    judged = False
    if gain is not None and size is not None:
        ours = np.array([client.accuracy[test]])
        judged = bool(outcomes(ours, ours - gain, np.array([size])).any())
    return _gain(gain, judged=judged)


def _gain(value: float | None, *, judged: bool) -> Text:
    """Return a gain whose sign says it and whose colour repeats it, if the test can tell."""
    shown = points(value)
    if not judged:
        return Text(shown)
    style = {"+": "bold green", "-": "bold red"}.get(shown.strip()[0], "")
    return Text(shown, style=style if value is not None else "")


def _size(size: float) -> str:
    """Return a number of bytes in words.

    >>> _size(999), _size(4_000_000)
    ('999 B', '4.0 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
