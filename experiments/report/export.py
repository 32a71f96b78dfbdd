"""Single figures and tables as files: PNG, SVG, PDF, CSV, LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.report.contents import Report
from experiments.report.figure import Figure, sheet
from experiments.report.layout import Layout
from experiments.report.page import cannot_write
from experiments.report.table import Table, to_csv, to_latex
from fedfuse.errors import FedfuseError, did_you_mean
from fedfuse.files import confined

SUFFIXES = {
    "html": ".html",
    "png": ".png",
    "svg": ".svg",
    "pdf": ".pdf",
    "csv": ".csv",
    "latex": ".tex",
}
"""What a file of each format ends in."""


def parts(report: Report, kind: str, wanted: Sequence[str]) -> list[Figure | Table]:
    """Return the figures and tables that a format can show and that were asked for.

    Args:
        report: The report.
        kind: png, svg and pdf show figures, latex shows tables, csv both.
        wanted: Names as on the page, with or without the number of their federation; all if empty.

    Raises:
        FedfuseError: If one was asked for that is not there.
    """
    tables: list[Figure | Table] = [*report.tables, *report.appendix]
    figures: list[Figure | Table] = [*report.figures()]
    known = {"latex": tables, "csv": [*tables, *figures]}.get(kind, figures)
    if not wanted:
        # Configuration and environment are pages long: only for those who ask.
        return [part for part in known if part not in report.appendix]
    found: dict[str, Figure | Table] = {}
    for name in wanted:
        named = [part for part in known if name in (part.name, family(part.name))]
        if not named:
            raise _unknown(name, kind, known)
        found |= {part.name: part for part in named}
    return list(found.values())


def family(name: str) -> str:
    """Return a name without the number of its federation or method.

    >>> family("curves-2"), family("effectiveness-2-m1"), family("curves")
    ('curves', 'effectiveness', 'curves')
    """
    return name.split("-", 1)[0]


def write(
    parts: Sequence[Figure | Table], kind: str, target: Path, layout: Layout | None = None
) -> list[Path]:
    """Write each part and return the files.

    Args:
        parts: What to write.
        kind: The format.
        target: A file if it ends in the format's suffix, which only one part fits; else a folder,
            where every part gets its name.
        layout: How large figures are; as on the page if None.
    """
    if target.suffix == SUFFIXES[kind]:
        if len(parts) > 1:
            names = ", ".join(part.name for part in parts)
            raise FedfuseError(
                f"one file cannot hold {len(parts)} parts",
                got=f"'{target}' for {names}",
                next_step="Name one with --figure, or give a folder.",
            )
        files = [target]
    else:
        files = [target / f"{part.name}{SUFFIXES[kind]}" for part in parts]
    for file in files:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(file.parent, error) from error
    for part, file in zip(parts, files, strict=True):
        try:
            with confined.replacing(file) as new:
                _write(part, kind, new, layout or Layout())
        except OSError as error:
            raise cannot_write(file, error) from error
    return files


def _write(part: Figure | Table, kind: str, file: Path, layout: Layout) -> None:
    if kind == "csv":
        file.write_text(to_csv(part.numbers), encoding="utf-8")
    elif kind == "latex":
        assert isinstance(part, Table)
        file.write_text(to_latex(part), encoding="utf-8")
    else:
        assert isinstance(part, Figure)
        drawing = sheet(part, layout)
        if kind == "svg":
            from experiments.report.svg import standalone

            file.write_text(standalone(drawing, layout.scale), encoding="utf-8")
        else:
            from experiments.report.raster import write_pdf, write_png

            (write_pdf if kind == "pdf" else write_png)(drawing, file, layout.scale)


def _unknown(name: str, kind: str, known: Sequence[Figure | Table]) -> FedfuseError:
    names = list(dict.fromkeys(family(part.name) for part in known))
    nearest = did_you_mean(name, names)
    return FedfuseError(
        f"there is no '{name}' to write as {kind}",
        allowed=", ".join(names) or "nothing of this report",
        next_step=f"Did you mean '{nearest}'?" if nearest else None,
    )
