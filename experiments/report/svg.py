"""Drawings as SVG: inline for the page, or as files that stand alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import TypeAlias

import numpy as np
from PIL import Image

from experiments.report import theme
from experiments.report.drawing import Area, Box, Dot, Drawing, Line, Mark, Pixels, Point, Text
from fedfuse.safe_text import visible

FACE = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
LONGEST = 4000
"""Characters of a text at most; a sentence has a few hundred."""
SHARP = 240
"""Pixels that a picture has at least, in each direction."""

Paint: TypeAlias = Callable[[str], str]
"""From the role of a colour to what stands for it in a file."""


def variable(role: str) -> str:
    """Return the colour of a role as the page around it has it, light or dark."""
    return f"var(--{role})"


def inline(drawing: Drawing, name: str) -> str:
    """Return an ``<svg>`` element that takes its colours from the page around it.

    Args:
        drawing: What to draw.
        name: A name that no other drawing of the page has.
    """
    name, marks = escaped(name), "".join(shape(mark) for mark in drawing.marks)
    return f"<svg {_head(drawing, name)}>{_about(drawing, name)}{marks}</svg>"


def standalone(drawing: Drawing, scale: float = 1.0) -> str:
    """Return an SVG file that looks the same everywhere.

    Colours, face and size stand in attributes, because programs that draw papers and slides know
    neither a page's variables nor its style sheet.

    Args:
        drawing: What to draw.
        scale: Points of the file per pixel of the drawing.
    """
    size = " ".join(
        f'{name}="{scale * value:.2f}pt"'
        for name, value in (("width", drawing.width), ("height", drawing.height))
    )
    paper = f'<rect width="100%" height="100%" fill="{theme.LIGHT["paper"]}"/>'
    marks = "".join(shape(mark, theme.LIGHT.__getitem__) for mark in drawing.marks)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<svg {size} {_head(drawing, "figure")} '
        f'font-family="{FACE}">{_about(drawing, "figure")}{paper}{marks}</svg>\n'
    )


def _head(drawing: Drawing, name: str) -> str:
    labels = f"{name}-title {name}-desc" if drawing.description else f"{name}-title"
    return (
        f'xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{labels}" '
        f'viewBox="0 0 {number(drawing.width)} {number(drawing.height)}"'
    )


def _about(drawing: Drawing, name: str) -> str:
    about = f'<title id="{name}-title">{escaped(drawing.title)}</title>'
    if drawing.description:
        about += f'<desc id="{name}-desc">{escaped(drawing.description)}</desc>'
    return about


def escaped(text: str) -> str:
    r"""Return a text as XML and HTML show it: markup is text, and nothing in it acts or hides.

    >>> escaped("<b>\x00")
    '&lt;b&gt;\\x00'
    """
    return escape(visible(text, LONGEST))


def number(value: float) -> str:
    """Return a coordinate to a tenth of a pixel.

    >>> number(12.04), number(0.25), number(-0.01)
    ('12', '0.2', '0')
    """
    text = f"{value:.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


def shape(mark: Mark, paint: Paint = variable) -> str:
    """Return the element of one mark."""
    match mark:
        case Line():
            dash = f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
            drawn = (
                f'<path d="{path(mark.points)}" fill="none" stroke="{paint(mark.colour)}" '
                f'stroke-width="{number(mark.width)}"{dash}{_opacity(mark.opacity)} '
                f'stroke-linejoin="round"'
            )
            return _titled(drawn, "path", mark.label)
        case Area():
            fill = f'fill="{paint(mark.colour)}"{_opacity(mark.opacity)}'
            return f'<path d="{path(mark.points)}Z" {fill}/>'
        case Box():
            fill = paint(mark.colour) if mark.colour else "none"
            stroke = f' stroke="{paint(mark.outline)}"' if mark.outline else ""
            drawn = (
                f'<rect x="{number(mark.x)}" y="{number(mark.y)}" width="{number(mark.width)}" '
                f'height="{number(mark.height)}" fill="{fill}"{stroke}{_opacity(mark.opacity)}'
            )
            return _titled(drawn, "rect", mark.label)
        case Dot():
            drawn = (
                f'<circle cx="{number(mark.x)}" cy="{number(mark.y)}" r="{number(mark.radius)}" '
                f'fill="{paint(mark.colour)}"{_opacity(mark.opacity)}'
            )
            return _titled(drawn, "circle", mark.label)
        case Text():
            weight = ' font-weight="600"' if mark.bold else ""
            anchor = f' text-anchor="{mark.anchor}"' if mark.anchor != "start" else ""
            return (
                f'<text x="{number(mark.x)}" y="{number(mark.y)}" fill="{paint(mark.colour)}" '
                f'font-size="{number(mark.size)}"{anchor}{weight}>{escaped(mark.text)}</text>'
            )
        case Pixels():
            drawn = (
                f'<image x="{number(mark.x)}" y="{number(mark.y)}" width="{number(mark.width)}" '
                f'height="{number(mark.height)}" preserveAspectRatio="none" '
                f'style="image-rendering:pixelated" href="{data_uri(mark)}"'
            )
            return _titled(drawn, "image", mark.label)


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
    # Large enough that a program that smooths pictures smooths no cell into the next.
    alpha = alpha.repeat(-(-SHARP // alpha.shape[0]), 0).repeat(-(-SHARP // alpha.shape[1]), 1)
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


def _titled(drawn: str, tag: str, label: str) -> str:
    return f"{drawn}><title>{escaped(label)}</title></{tag}>" if label else f"{drawn}/>"
