"""The report as one page that needs nothing else: no network, no other file.

Whatever comes out of a run folder is made visible and escaped where a template puts it out, and the
page's own policy lets only this script run and lets nothing be fetched, so that a folder from a
stranger can be opened.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from experiments.report import svg, theme
from experiments.report.contents import Report
from experiments.report.drawing import Box, Line
from experiments.report.figure import Figure, Key
from fedfuse.errors import FedfuseError
from fedfuse.files import confined
from fedfuse.safe_text import visible

MARK = '<meta name="generator" content="fedfuse-report">'
"""What tells a report from any other page, so that only reports are ever replaced."""


def render(report: Report) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("experiments.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"inline": _inline, "swatch": _swatch}
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html.j2").render(
        report=report, policy=policy, mark=MARK, style=_style(), script=script
    )


def save(target: Path, page: Callable[[], str]) -> Path:
    """Write a page and return where; an older report makes way, any other file stays.

    Args:
        target: Where to.
        page: Renders it; not called if it could not be written.

    Raises:
        FedfuseError: If something else is there, or the place cannot be written.
    """
    try:
        if target.is_symlink() or (target.exists() and not _is_report(target)):
            raise FedfuseError(
                f"'{target}' was not written by fedfuse-report, so it stays as it is.",
                next_step="Choose another place with --output.",
            )
        text = page()
        target.parent.mkdir(parents=True, exist_ok=True)
        with confined.replacing(target) as file:
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def _is_report(file: Path) -> bool:
    if not file.is_file():  # a pipe would not answer
        return False
    with file.open(encoding="utf-8", errors="replace") as content:
        return MARK in content.read(4096)


def cannot_write(path: Path, error: OSError) -> FedfuseError:
    """Return what to tell of a place that cannot be written."""
    return FedfuseError(
        f"'{path}' cannot be written: {error.strerror}.",
        next_step="Choose another place with --output.",
    )


def _shown(value: Any) -> Any:
    """Return what a template puts out, before Jinja escapes it: nothing in it acts or hides.

    Only what a template itself calls safe is left alone: our own files, and what svg.py has drawn.
    """
    return value if isinstance(value, Markup) else visible(str(value), svg.LONGEST)


def _file(name: str) -> str:
    return files("experiments.report").joinpath(name).read_text(encoding="utf-8")


def _style() -> str:
    light, dark = theme.variables(theme.LIGHT), theme.variables(theme.DARK)
    return (
        f":root{{{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f"@media screen{{:root[data-theme=dark]{{{dark}color-scheme:dark}}}}"
        ":root[data-theme=light]{color-scheme:light}" + _file("page.css")
    )


def _inline(figure: Figure) -> list[str]:
    return [svg.inline(panel, f"{figure.name}-{i}") for i, panel in enumerate(figure.panels, 1)]


def _swatch(key: Key) -> str:
    if key.filled:
        return svg.shape(Box(7, 0, 12, 12, key.colour, key.opacity))
    return svg.shape(Line(((0, 6), (26, 6)), key.colour, 2.4, key.dash))
