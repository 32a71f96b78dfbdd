"""The report as one page that needs nothing else: no network, no other file.

Whatever comes out of a run folder is escaped, and the page's own policy lets only this script run
and lets nothing be fetched, so that a folder from a stranger can be opened.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import count
from pathlib import Path

from experiments.report import svg, theme
from experiments.report.drawing import Box, Drawing, Line
from experiments.report.figure import Figure, Key
from experiments.report.svg import words
from experiments.report.table import Table, to_html
from fedfuse.errors import FedfuseError
from fedfuse.files import confined

MARK = '<meta name="generator" content="fedfuse-report">'
"""What tells a report from any other page, so that only reports are ever replaced."""


LONG = 12
"""Rows of a table that is shown at once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence on a comparison.

    Args:
        text: The sentence.
        where: Which comparison: the method, the test set, the federation.
        tone: gain, loss, best for the sentence that comes first, or empty where no difference is
            certain.
    """

    text: str
    where: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A federation: its verdicts and figures; the label is empty for the only one of a report."""

    label: str
    verdicts: tuple[Verdict, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page says, in its order.

    Args:
        title: Its headline.
        about: What was run, in a line or two.
        notes: What a reader must know before the numbers: runs that were left out, and why.
        verdicts: The answers.
        main: The figure that shows them.
        tables: The numbers of the answers.
        overview: Figures about all federations together: the map.
        groups: The figures of each federation.
        appendix: Configuration, environment and runs.
        written: When, by what.
    """

    title: str
    about: tuple[str, ...]
    notes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    main: tuple[Figure, ...]
    tables: tuple[Table, ...]
    overview: tuple[Figure, ...]
    groups: tuple[Group, ...]
    appendix: tuple[Table, ...]
    written: str

    def figures(self) -> list[Figure]:
        """Return every figure."""
        groups = (figure for group in self.groups for figure in group.figures)
        return [*self.main, *self.overview, *groups]


def render(report: Report) -> str:
    """Return the page."""
    style = (
        f":root{{{theme.variables(theme.LIGHT)}}}"
        "@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]){"
        f"{theme.variables(theme.DARK)}}}}}"
        f"@media screen{{:root[data-theme=dark]{{{theme.variables(theme.DARK)}color-scheme:dark}}}}"
        ":root[data-theme=light]{color-scheme:light}" + _file("page.css")
    )
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{MARK}\n<title>{words(report.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"{_header(report)}<main>\n{_body(report)}</main>\n"
        f"<footer><p>{words(report.written)}</p></footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
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


def _file(name: str) -> str:
    return files("experiments.report").joinpath(name).read_text(encoding="utf-8")


def _header(report: Report) -> str:
    about = "".join(f'<p class="about">{words(line)}</p>' for line in report.about)
    return (
        '<header><div class="kicker"><span>fedfuse report</span>'
        '<button class="theme" type="button" aria-live="polite">theme: auto</button></div>'
        f"<h1>{words(report.title)}</h1>{about}{_verdicts(report.verdicts)}{_notes(report)}"
        f"{_navigation(report)}</header>\n"
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    best = "".join(f'<p class="best">{words(v.text)}</p>' for v in verdicts if v.tone == "best")
    items = "".join(
        f'<li class="{words(v.tone)}"><span class="where">{words(v.where)}</span>'
        f"{words(v.text)}</li>"
        for v in verdicts
        if v.tone != "best"
    )
    return f'{best}<ul class="verdicts">{items}</ul>'


def _notes(report: Report) -> str:
    if not report.notes:
        return ""
    items = "".join(f"<li>{words(note)}</li>" for note in report.notes)
    return f'<div class="note" role="note">Before you read on:<ul>{items}</ul></div>'


def _navigation(report: Report) -> str:
    entries = [(figure.name, figure.title) for figure in report.main]
    entries += [(f"table-{table.name}", table.title) for table in report.tables]
    entries += [(figure.name, figure.title) for figure in report.overview]
    if len(report.groups) == 1:
        entries += [(figure.name, figure.title) for figure in report.groups[0].figures]
    else:
        entries += [(f"federation-{i}", g.label) for i, g in enumerate(report.groups, 1)]
    entries += [(f"table-{table.name}", table.title) for table in report.appendix]
    links = "".join(f'<a href="#{words(at)}">{words(text)}</a>' for at, text in entries)
    return f'<nav aria-label="Contents">{links}</nav>'


def _body(report: Report) -> str:
    parts = [_figure(figure, "h2") for figure in report.main]
    parts += [_table(table, fold=i > 0) for i, table in enumerate(report.tables)]
    parts += [_figure(figure, "h2") for figure in report.overview]
    if len(report.groups) == 1:
        parts += [_figure(figure, "h2") for figure in report.groups[0].figures]
    else:
        for i, group in enumerate(report.groups, 1):
            inside = "".join(_figure(figure, "h3") for figure in group.figures)
            is_open = " open" if i == 1 else ""
            parts.append(
                f'<details id="federation-{i}"{is_open}><summary>{words(group.label)}</summary>'
                f"{_verdicts(group.verdicts)}{inside}</details>"
            )
    parts += [_table(table, fold=True) for table in report.appendix]
    return "\n".join(parts)


def _table(table: Table, *, fold: bool) -> str:
    """Return a table under its heading; a long one that is not the answer waits to be opened."""
    if fold and len(table.rows) > LONG:
        return (
            f'<details class="long"><summary>{words(table.title)} '
            f"<span>{len(table.rows)} rows</span></summary>{to_html(table)}</details>"
        )
    return f"<h2>{words(table.title)}</h2>{to_html(table)}"


def _figure(figure: Figure, heading: str) -> str:
    numbers = count(1)

    def panels(drawings: Sequence[Drawing]) -> str:
        drawn = "".join(svg.inline(d, f"{figure.name}-{next(numbers)}") for d in drawings)
        return f'<div class="panels{" one" if figure.columns == 1 else ""}">{drawn}</div>'

    if figure.frames:
        kind, inside = ' class="moments"', _moments(figure, panels)
    else:
        kind, inside = "", panels(figure.panels)
    return (
        f'<figure id="{words(figure.name)}"{kind}><{heading}>{words(figure.title)}</{heading}>'
        f"<figcaption>{words(figure.caption)}</figcaption>{_legend(figure.legend)}{inside}</figure>"
    )


def _moments(figure: Figure, panels: Callable[[Sequence[Drawing]], str]) -> str:
    last = len(figure.frames) - 1
    frames = "".join(
        f'<div class="frame" data-name="{words(name)}">{panels(figure.frame(i))}</div>'
        for i, name in enumerate(figure.frames)
    )
    slider = (
        f'<label class="slider"><span>round</span><input type="range" min="0" max="{last}" '
        f'value="{last}" step="1" aria-label="{words(figure.title)}: round">'
        "<output></output></label>"
        if last
        else ""
    )
    return f'{slider}<div class="frames">{frames}</div>'


def _legend(keys: Sequence[Key]) -> str:
    if not keys:
        return ""
    items = "".join(f"<li>{_swatch(key)}{words(key.label)}</li>" for key in keys)
    return f'<ul class="legend">{items}</ul>'


def _swatch(key: Key) -> str:
    if key.filled:
        mark = svg.shape(Box(7, 0, 12, 12, key.colour, key.opacity))
    else:
        mark = svg.shape(Line(((0, 6), (26, 6)), key.colour, 2.4, key.dash))
    return f'<svg viewBox="0 0 26 12" aria-hidden="true">{mark}</svg>'
