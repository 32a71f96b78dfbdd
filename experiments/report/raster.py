"""Drawings as PNG, for slides and documents that take no SVG."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.report import theme
from experiments.report.drawing import Area, Box, Dot, Drawing, Line, Mark, Pixels, Text
from experiments.report.svg import rgb

SCALE = 2
"""Pixels of the file per pixel of the drawing: sharp on today's screens."""

_DPI = 72.0  # one point of a line or of a text is one pixel of the drawing
_ALIGN = {"start": "left", "middle": "center", "end": "right"}


def write_png(drawing: Drawing, path: Path) -> None:
    """Write the drawing on white paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (drawing.width / _DPI, drawing.height / _DPI)
    figure = Figure(figsize=size, dpi=_DPI * SCALE, facecolor=theme.LIGHT["paper"])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.axis("off")
    for order, mark in enumerate(drawing.marks):
        _draw(axes, mark, order)
    figure.savefig(path, format="png", dpi=_DPI * SCALE, metadata={"Title": drawing.title})


def _draw(axes, mark: Mark, order: int) -> None:  # type: ignore[no-untyped-def]
    from matplotlib.patches import Circle, Polygon, Rectangle

    match mark:
        case Line():
            dash = [float(part) / max(mark.width, 1) for part in mark.dash.split()]
            axes.plot(
                *zip(*mark.points, strict=True),
                color=theme.LIGHT[mark.colour],
                linewidth=mark.width,
                linestyle=(0, dash) if dash else "-",
                alpha=mark.opacity,
                zorder=order,
                solid_joinstyle="round",
                solid_capstyle="butt",
            )
        case Area():
            style = {"facecolor": theme.LIGHT[mark.colour], "alpha": mark.opacity, "linewidth": 0}
            axes.add_patch(Polygon(mark.points, closed=True, zorder=order, **style))
        case Box():
            axes.add_patch(
                Rectangle(
                    (mark.x, mark.y),
                    mark.width,
                    mark.height,
                    facecolor=theme.LIGHT[mark.colour] if mark.colour else "none",
                    edgecolor=theme.LIGHT[mark.outline] if mark.outline else "none",
                    alpha=mark.opacity,
                    zorder=order,
                )
            )
        case Dot():
            style = {"facecolor": theme.LIGHT[mark.colour], "alpha": mark.opacity, "linewidth": 0}
            axes.add_patch(Circle((mark.x, mark.y), mark.radius, zorder=order, **style))
        case Text():
            axes.text(
                mark.x,
                mark.y,
                mark.text.replace("$", r"\$"),
                color=theme.LIGHT[mark.colour],
                fontsize=mark.size * 0.92,  # DejaVu Sans runs wider than a system's own face
                ha=_ALIGN[mark.anchor],
                va="baseline",
                fontweight="bold" if mark.bold else "normal",
                zorder=order,
            )
        case Pixels():
            picture = np.empty((*mark.values.shape, 4))
            picture[..., :3] = np.array(rgb(theme.LIGHT[mark.colour])) / 255
            picture[..., 3] = np.clip(np.nan_to_num(mark.values), 0, 1)
            box = (mark.x, mark.x + mark.width, mark.y + mark.height, mark.y)
            axes.imshow(picture, extent=box, aspect="auto", interpolation="nearest", zorder=order)
            axes.set_xlim(axes.get_xlim())
