"""Drawings as PNG and PDF, for slides, documents and papers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report import theme
from experiments.report.drawing import Area, Box, Dot, Drawing, Line, Mark, Pixels, Text
from experiments.report.svg import LONGEST, rgb
from fedfuse.safe_text import visible

SCALE = 2
"""Pixels of a PNG per pixel of the drawing: sharp on today's screens."""

PRINT = 300.0
"""Pixels of a PNG to the inch where its size on paper was asked for."""

_POINTS = 72.0  # to the inch
_ALIGN = {"start": "left", "middle": "center", "end": "right"}


def write_png(drawing: Drawing, path: Path, scale: float = 1.0) -> None:
    """Write the drawing on white paper.

    Args:
        drawing: What to draw.
        path: Where to.
        scale: Points on paper per pixel of the drawing.
    """
    about = {"Title": visible(drawing.title)}
    dpi = SCALE * _POINTS if scale == 1 else PRINT
    _write(drawing, path, "png", scale, dpi=dpi, metadata=about)


def write_pdf(drawing: Drawing, path: Path, scale: float = 1.0) -> None:
    """Write the drawing as a page of exactly its size; equal drawings give equal bytes."""
    about = {"Title": visible(drawing.title), "Creator": "fedfuse-report", "CreationDate": None}
    _write(drawing, path, "pdf", scale, dpi=600.0, metadata=about)


def _write(
    drawing: Drawing, path: Path, kind: str, scale: float, dpi: float, metadata: dict[str, Any]
) -> None:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (drawing.width * scale / _POINTS, drawing.height * scale / _POINTS)
    figure = Figure(figsize=size, dpi=_POINTS, facecolor=theme.LIGHT["paper"])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.axis("off")
    for order, mark in enumerate(drawing.marks):
        _draw(axes, mark, order, scale)
    # Letters as TrueType: publishers refuse matplotlib's own Type 3.
    with mpl.rc_context({"pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the face lacks is a box
        figure.savefig(path, format=kind, dpi=dpi, metadata=metadata)


def _draw(axes, mark: Mark, order: int, scale: float) -> None:  # type: ignore[no-untyped-def]
    from matplotlib.patches import Circle, Polygon, Rectangle

    match mark:
        case Line():
            dash = [float(part) / max(mark.width, 1) for part in mark.dash.split()]
            axes.plot(
                *zip(*mark.points, strict=True),
                color=theme.LIGHT[mark.colour],
                linewidth=mark.width * scale,
                linestyle=(0, dash) if dash else "-",
                alpha=mark.opacity,
                zorder=order,
                solid_joinstyle="round",
                solid_capstyle="butt",
                dash_capstyle="butt",
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
                    linewidth=scale if mark.outline else 0,
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
                visible(mark.text, LONGEST),
                color=theme.LIGHT[mark.colour],
                fontsize=mark.size * scale,
                ha=_ALIGN[mark.anchor],
                va="baseline",
                fontweight="bold" if mark.bold else "normal",
                parse_math=False,
                zorder=order,
            )
        case Pixels():
            picture = np.empty((*mark.values.shape, 4))
            picture[..., :3] = np.array(rgb(theme.LIGHT[mark.colour])) / 255
            picture[..., 3] = np.clip(np.nan_to_num(mark.values), 0, 1)
            box = (mark.x, mark.x + mark.width, mark.y + mark.height, mark.y)
            axes.imshow(picture, extent=box, aspect="auto", interpolation="nearest", zorder=order)
            axes.set_xlim(axes.get_xlim())
