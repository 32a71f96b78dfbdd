"""The picture of a map: where fusion beats local training, by how much, and how surely."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.map.findings import Findings
from experiments.results import TESTS
from fedfuse.compare import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.figure import Figure

COLOURS = "PuOr"
"""Diverging and safe for colour-blind readers: orange where local training wins, purple where
fusion does."""

NAMES = {"accuracy_own": "own distribution", "accuracy_global": "balanced test set"}
GREY = "#d9d9d9"


def draw(findings: Findings, title: str = "") -> Figure:
    """Return the figure: a column per method, a row per test protocol.

    Each cell holds the mean gain in points and its interval. It is hatched if the interval holds
    0 (or there is none, with one seed), and the region where local training is ahead has an
    outline. Both test protocols have a colour scale of their own: gains on the balanced test are
    often ten times as large.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns, rows = len(findings.methods), len(TESTS)
    size = 0.62 + 0.95 * len(findings.samples), 0.55 + 0.62 * len(findings.alpha)
    wide, high = max(columns * size[0] + 1.7, 5.6), rows * (size[1] + 0.42) + 1.35
    with mpl.rc_context({"font.size": 9, "hatch.linewidth": 0.6, "svg.fonttype": "path"}):
        figure = Figure(figsize=(wide, high), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for row, test in zip(panels, TESTS, strict=True):
            limit = _limit(findings.gains[test].values())
            for plot, method in zip(row, findings.methods, strict=True):
                mesh = _panel(plot, findings, test, method, limit)
            for plot in row[1:]:
                plot.tick_params(labelleft=False)
            row[0].set_ylabel(f"{NAMES[test]}\nDirichlet α")
            bar = figure.colorbar(mesh, ax=list(row), pad=0.02, aspect=14)
            bar.set_label("gain over local (points)")
            bar.outline.set_visible(False)
        for plot, method in zip(panels[0], findings.methods, strict=True):
            plot.set_title(method, weight="bold", size=10)
        for plot in panels[0]:
            plot.tick_params(labelbottom=False)
        for plot in panels[-1]:
            plot.set_xlabel("samples per client")
        figure.legend(
            handles=[
                Patch(
                    facecolor="white", edgecolor="0.35", hatch="////", label="95% interval holds 0"
                ),
                Patch(facecolor="white", edgecolor="black", linewidth=2.2, label="local is ahead"),
            ],
            loc="outside lower center",
            ncols=2,
            frameon=False,
        )
        if title:
            figure.suptitle(title, size=9, color="0.25")
        # Drawn here, while the settings hold; saving later repeats nothing that depends on them.
        figure.draw_without_rendering()
    return figure


def save(figure: Figure, folder: Path) -> list[Path]:
    """Write ``map.png`` and ``map.svg``, the same bytes for the same map."""
    import matplotlib as mpl

    files = [folder / "map.png", folder / "map.svg"]
    with mpl.rc_context(
        {"hatch.linewidth": 0.6, "svg.fonttype": "path", "svg.hashsalt": "fedfuse"}
    ):
        for file, meta in zip(files, ({"Software": None}, {"Date": None}), strict=True):
            temporary = file.with_name(f".{file.name}.tmp")
            figure.savefig(
                temporary, format=file.suffix[1:], dpi=200, metadata=meta, facecolor="white"
            )
            temporary.replace(file)
    return files


def _panel(plot: Plot, findings: Findings, test: str, method: str, limit: float) -> Any:
    """Draw one method on one test protocol."""
    import numpy as np
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    shape = len(findings.alpha), len(findings.samples)
    table = np.full(shape, np.nan)
    behind = np.zeros(shape, dtype=bool)
    found = findings.gains[test]
    for y, alpha in enumerate(findings.alpha):
        for x, samples in enumerate(findings.samples):
            cell = found.get((samples, alpha, method))
            if cell is None:
                plot.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, color=GREY))
                plot.text(x, y, "no run", ha="center", va="center", size=7, color="0.4")
                continue
            table[y, x] = 100 * cell.mean
            behind[y, x] = cell.mean < 0
            if not cell.significant:
                plot.add_patch(
                    Rectangle(
                        (x - 0.5, y - 0.5),
                        1,
                        1,
                        fill=False,
                        hatch="////",
                        edgecolor=(0, 0, 0, 0.28),
                        linewidth=0,
                    )
                )
            _label(plot, x, y, cell, limit)
    mesh = plot.imshow(
        table,
        cmap=COLOURS,
        norm=Normalize(-limit, limit),
        aspect="auto",
        origin="lower",
        interpolation="nearest",
    )
    plot.set_xticks(range(shape[1]), [str(n) for n in findings.samples])
    plot.set_yticks(range(shape[0]), [f"{a:g}" for a in findings.alpha])
    plot.tick_params(length=0)
    plot.set_xticks(np.arange(1, shape[1]) - 0.5, minor=True)
    plot.set_yticks(np.arange(1, shape[0]) - 0.5, minor=True)
    plot.grid(which="minor", color="white", linewidth=1.5)
    plot.tick_params(which="minor", length=0)
    for side in plot.spines.values():
        side.set_visible(False)
    _outline(plot, behind)
    return mesh


def _label(plot: Plot, x: int, y: int, cell: Comparison, limit: float) -> None:
    """Write the gain, and its interval below it."""
    from matplotlib.patheffects import withStroke

    dark = abs(100 * cell.mean) > 0.62 * limit
    ink, paper = ("white", "0.2") if dark else ("black", "white")
    around = [] if cell.significant else [withStroke(linewidth=2.2, foreground=paper, alpha=0.8)]
    shown = f"{100 * cell.mean:+.1f}".replace("-", "−")
    style: dict[str, Any] = {
        "xy": (x, y),
        "textcoords": "offset points",
        "ha": "center",
        "va": "center",
        "color": ink,
        "path_effects": around,
        "zorder": 5,
    }
    above = 4 if cell.interval is not None else 0
    plot.annotate(shown, xytext=(0, above), size=10, weight="bold", **style)
    if cell.interval is not None:
        low, high = 100 * cell.interval.low, 100 * cell.interval.high
        ends = f"[{low:.1f}, {high:.1f}]".replace("-", "−")
        plot.annotate(ends, xytext=(0, -8), size=6.5, **style)


def _outline(plot: Plot, region: Any) -> None:
    """Draw a line around the cells of a region [A, N]."""
    import numpy as np

    padded = np.pad(region, 1)
    style: dict[str, Any] = {
        "color": "black",
        "linewidth": 2.2,
        "solid_capstyle": "projecting",
        "zorder": 4,
        "clip_on": False,
    }
    for y, x in np.argwhere(region):
        above, below = padded[y + 2, x + 1], padded[y, x + 1]
        right, left = padded[y + 1, x + 2], padded[y + 1, x]
        for side, xs, ys in (
            (above, (x - 0.5, x + 0.5), (y + 0.5, y + 0.5)),
            (below, (x - 0.5, x + 0.5), (y - 0.5, y - 0.5)),
            (right, (x + 0.5, x + 0.5), (y - 0.5, y + 0.5)),
            (left, (x - 0.5, x - 0.5), (y - 0.5, y + 0.5)),
        ):
            if not side:
                plot.plot(xs, ys, **style)


def _limit(cells: Iterable[Comparison]) -> float:
    """Return the end of the colour scale in points: the largest gain or loss, at least 1."""
    return max([1.0, *(abs(100 * cell.mean) for cell in cells)])
