"""Drawings as SVG: inline for the page, or as files that stand alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from experiments.report import theme
from experiments.report.drawing import Area, Box, Dot, Drawing, Line, Mark, Pixels, Point, Text

FACE = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', 'Liberation Sans', sans-serif"


def inline(drawing: Drawing, name: str) -> str:
    """Return an ``<svg>`` element that takes its colours from the page around it.

    Args:
        drawing: What to draw.
        name: A name that no other drawing of the page has.
    """
    labels = f"{name}-title {name}-desc" if drawing.description else f"{name}-title"
    about = f'<title id="{name}-title">{escape(drawing.title)}</title>'
    if drawing.description:
        about += f'<desc id="{name}-desc">{escape(drawing.description)}</desc>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{labels}" '
        f'viewBox="0 0 {number(drawing.width)} {number(drawing.height)}">'
        f"{about}{''.join(map(shape, drawing.marks))}</svg>"
    )


def standalone(drawing: Drawing) -> str:
    """Return an SVG file, light or dark as its reader's system is."""
    style = (
        f":root{{{theme.variables(theme.LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{theme.variables(theme.DARK)}}}}}"
        f"text{{font-family:{FACE}}}"
    )
    size = f'width="{number(drawing.width)}" height="{number(drawing.height)}" '
    body = inline(drawing, "figure")
    head, rest = body.split(">", 1)
    head = head.replace("viewBox=", f"{size}viewBox=", 1)
    paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}><style>{style}</style>{paper}{rest}\n'


def number(value: float) -> str:
    """Return a coordinate to a tenth of a pixel.

    >>> number(12.04), number(0.25), number(-0.01)
    ('12', '0.2', '0')
    """
    text = f"{value:.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


def shape(mark: Mark) -> str:
    """Return the element of one mark."""
    match mark:
        case Line():
            dash = f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
            drawn = (
                f'<path d="{path(mark.points)}" fill="none" stroke="var(--{mark.colour})" '
                f'stroke-width="{number(mark.width)}"{dash}{_opacity(mark.opacity)} '
                f'stroke-linejoin="round"'
            )
            return _told(drawn, "path", mark.label)
        case Area():
            fill = f'fill="var(--{mark.colour})"{_opacity(mark.opacity)}'
            return f'<path d="{path(mark.points)}Z" {fill}/>'
        case Box():
            fill = f"var(--{mark.colour})" if mark.colour else "none"
            stroke = f' stroke="var(--{mark.outline})"' if mark.outline else ""
            drawn = (
                f'<rect x="{number(mark.x)}" y="{number(mark.y)}" width="{number(mark.width)}" '
                f'height="{number(mark.height)}" fill="{fill}"{stroke}{_opacity(mark.opacity)}'
            )
            return _told(drawn, "rect", mark.label)
        case Dot():
            drawn = (
                f'<circle cx="{number(mark.x)}" cy="{number(mark.y)}" r="{number(mark.radius)}" '
                f'fill="var(--{mark.colour})"{_opacity(mark.opacity)}'
            )
            return _told(drawn, "circle", mark.label)
        case Text():
            weight = ' font-weight="600"' if mark.bold else ""
            anchor = f' text-anchor="{mark.anchor}"' if mark.anchor != "start" else ""
            return (
                f'<text x="{number(mark.x)}" y="{number(mark.y)}" fill="var(--{mark.colour})" '
                f'font-size="{number(mark.size)}"{anchor}{weight}>{escape(mark.text)}</text>'
            )
        case Pixels():
            drawn = (
                f'<image x="{number(mark.x)}" y="{number(mark.y)}" width="{number(mark.width)}" '
                f'height="{number(mark.height)}" preserveAspectRatio="none" '
                f'style="image-rendering:pixelated" href="{data_uri(mark)}"'
            )
            return _told(drawn, "image", mark.label)


def path(points: Sequence[Point]) -> str:
    """Return an SVG path through the points.

    >>> path([(0, 1), (2, 3)])
    'M0 1L2 3'
    """
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def data_uri(pixels: Pixels) -> str:
    """Return the matrix as a picture inside the page: one colour, the values its opacity."""
    alpha = np.clip(np.nan_to_num(pixels.values), 0, 1)
    red, green, blue = rgb(theme.LIGHT[pixels.colour])
    picture = np.empty((*alpha.shape, 4), dtype=np.uint8)
    picture[..., :3] = red, green, blue
    picture[..., 3] = np.rint(255 * alpha)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def rgb(colour: str) -> tuple[int, int, int]:
    """Return a colour's three bytes.

    >>> rgb("#ff8000")
    (255, 128, 0)
    """
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _opacity(value: float) -> str:
    return f' opacity="{value:.2f}"' if value < 1 else ""


def _told(drawn: str, tag: str, label: str) -> str:
    return f"{drawn}><title>{escape(label)}</title></{tag}>" if label else f"{drawn}/>"
