"""The page's templates: whatever they are given is text, and what is not there is an error."""

from __future__ import annotations

from dataclasses import fields, replace
from html import unescape

import jinja2
import pytest

from experiments.report.contents import Group, Report, Verdict
from experiments.report.drawing import Drawing
from experiments.report.figure import Figure, Key, Numbers
from experiments.report.page import render
from experiments.report.table import Cell, Column, Table

NASTY = "\"'><script>{{ 7 * 7 }}</script>\x1b\u202e\ud800"
NONE = Numbers((), ())


def everything(text: str) -> Report:
    """Return a report in which every text is this one."""
    drawing = Drawing(10, 10, (), text, text)
    figure = Figure(text, text, text, (drawing, drawing), NONE, (Key(text, "s0"),), 1)
    moments = replace(figure, frames=(text, text))
    columns = (Column(text, about=text, code=True), Column(text, numeric=False))
    rows = ((Cell(text, text, text), Cell(text)),)
    table = Table(text, text, text, columns, rows, NONE)
    verdicts = (Verdict(text, text, "best"), Verdict(text, text, text))
    group = Group(text, verdicts, (figure, moments))
    long = replace(table, rows=rows * 13)
    return Report(
        text, (text,), (text,), verdicts, (figure,), (table,), (moments,), (group, group), (long,),
        text,
    )  # fmt: skip


def test_every_text_of_a_report_is_shown_as_text() -> None:
    page, plain = render(everything(NASTY)), render(everything("plain"))
    assert page.count("<script>") == 1  # ours
    assert NASTY[:10] not in page
    assert not set("\x1b\u202e\ud800") & set(page)
    assert "{{ 7 * 7 }}" in page  # no text is a template
    # Nothing is lost or added either: with markup read back it is the plain page.
    shown = NASTY.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e").replace("\ud800", r"\ud800")
    assert unescape(page).replace(shown, "plain") == unescape(plain)


@pytest.mark.parametrize("name", [field.name for field in fields(Report)])
def test_a_field_that_is_missing_is_an_error_and_no_gap(name: str) -> None:
    report = everything("plain")

    class Without:
        def __getattr__(self, asked: str) -> object:
            if asked == name:
                raise AttributeError(asked)
            return getattr(report, asked)

    with pytest.raises(jinja2.UndefinedError):
        render(Without())  # type: ignore[arg-type]
