"""The ``fedfuse-report`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.terminal.console import Parser, exit_code, say_version, tell
from fedfuse.errors import ConfigError

if TYPE_CHECKING:
    from experiments.report.layout import Layout

FIGURES = "figures"
"""The folder of single files, beside the runs."""

PICTURES = ("png", "svg", "pdf")
USAGE = """\
fedfuse-report: what a run, a sweep or a map of fedfuse found, as one page.

  fedfuse-report FOLDER... [--format FORMAT] [--figure NAME] [-o PATH]

FOLDER is a run (outputs/...), a sweep (multirun/...) or the folder of a map;
several are reported on together. The page, FOLDER/report.html (of several
folders ./report.html), needs no network and no other file: open it with a
double click, send it, print it. Verdict and main figure come first.

  --format FORMAT    html (default): the page
                     png, svg, pdf: every figure as a file
                     csv: the numbers behind every figure and table, tidy
                     latex: the tables, for booktabs
  --figure NAME      only this figure or table; may be given again. Names are
                     forest, comparison, changes, map, frontier, curves, gains,
                     labels, effectiveness, classes, neighbours, traffic,
                     time, configuration, environment, runs
  --width WIDTH      of a figure on paper: 3.3 (inches; one column of many
                     journals), 6.9 (two), 84mm, 8.4cm; without its title, which
                     a paper's caption has
  --font-size SIZE   of its letters, in points (default with --width: 8)
  -o, --output PATH  where to: a file, or a folder for several
                     (default: FOLDER/report.html, else FOLDER/figures/)
  --traceback        with an error show every frame that led to it
  --version          print the version, and stop

A report is replaced when it is written again. Nothing else ever is: a file that
fedfuse-report did not write stays as it is, and so does a run.

examples:
  fedfuse-report multirun/2026-01-31/12-00-00
  fedfuse-report multirun/2026-01-31/12-00-00 multirun/2026-02-01/09-30-00
  fedfuse-report SWEEP --format pdf --figure forest --width 3.3 --font-size 8
  fedfuse-report SWEEP --format latex --figure comparison
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 for a mistake told in one message."""
    return exit_code(_run, argv)


def _run(argv: list[str]) -> int:
    parser = Parser("fedfuse-report")
    parser.add_argument("folders", nargs="*", type=Path)
    formats = ("html", "png", "svg", "pdf", "csv", "latex")
    parser.add_argument("--format", "-f", choices=formats, default="html")
    parser.add_argument("--figure", action="append", default=[])
    parser.add_argument("--width")
    parser.add_argument("--font-size")
    parser.add_argument("--output", "-o", type=Path)
    args = parser.parse_args(argv)
    if args.help:
        sys.stdout.write(USAGE)
        return 0
    if args.version:
        say_version("fedfuse-report")
        return 0
    if not args.folders:
        raise ConfigError(
            "fedfuse-report needs the folder of a run, a sweep or a map.",
            next_step="Runs are in outputs/, sweeps in multirun/; see fedfuse-report --help.",
        )
    if args.figure and args.format == "html":
        raise ConfigError(
            "--figure chooses what is written as single files",
            got="--format html",
            allowed="--format png, svg, pdf, csv or latex",
        )
    layout = _layout(args.width, args.font_size, args.format)
    for file in _written(args.folders, args.format, args.figure, args.output, layout):
        tell(str(file))
    return 0


def _layout(width: str | None, font: str | None, kind: str) -> Layout:
    """Return how large figures were asked to be."""
    from experiments.report.layout import PAPER_FONT, TWO_COLUMNS, Layout, font_size, inches, paper

    if width is None and font is None:
        return Layout()
    if kind not in PICTURES:
        raise ConfigError(
            "--width and --font-size are of figures in files",
            got=f"--format {kind}",
            allowed=f"--format {', '.join(PICTURES)}",
        )
    return paper(
        TWO_COLUMNS if width is None else inches(width),
        PAPER_FONT if font is None else font_size(font),
    )


def _written(
    folders: list[Path], kind: str, figures: list[str], output: Path | None, layout: Layout
) -> list[Path]:
    """Read the folders, write what was asked for, and return the files."""
    from experiments.report import export
    from experiments.report.builder import tell
    from experiments.results import load
    from fedfuse.files.confined import check_folder

    beside = folders[0] if len(folders) == 1 else Path()
    if kind == "html":
        from experiments.report.page import render, save

        target = output or beside / "report.html"
        if target.is_dir():
            target /= "report.html"
        return [save(target, lambda: render(tell(load(*folders))))]
    parts = export.parts(tell(load(*folders), layout), kind, figures)
    if output is None:
        check_folder(beside, FIGURES)
    return export.write(parts, kind, output or beside / FIGURES, layout)
