"""A table, for the page, for a spreadsheet and for a paper."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.report.figure import Numbers
from experiments.report.svg import LONGEST
from fedfuse.safe_text import visible

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "–": "--",
    "…": r"\ldots{}",
    # Other letters in LaTeX's oldest encoding.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


FORMULA = ("=", "+", "-", "@", "|", "%")
"""What a formula or a command of a spreadsheet begins with."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a reader sees, what the rows are sorted by, and its tone: gain, loss or none."""

    text: str
    value: float | str | None = None
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Args:
        name: Its heading.
        numeric: Whether it is aligned to the right.
        code: Whether it may break anywhere, as keys and paths must.
        about: What it means, shown to a pointer resting on it.
    """

    name: str
    numeric: bool = True
    about: str = ""
    code: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; ``numbers`` are the same facts unrounded, for ``--format csv``."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: Numbers


def to_latex(table: Table) -> str:
    """Return a table float in LaTeX, for the package ``booktabs``."""
    spec = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [
        "% written by fedfuse-report; needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{latex(table.caption)}}}",
        f"  \\label{{tab:{table.name}}}",
        f"  \\begin{{tabular}}{{{spec}}}",
        "    \\toprule",
        _line([column.name for column in table.columns]),
        "    \\midrule",
        *(_line([cell.text for cell in row]) for row in table.rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    """Return a row; what begins it is no argument of the end of the row before."""
    line = " & ".join(map(latex, cells))
    return f"    {'{}' if line.lstrip()[:1] in ('[', '*') else ''}{line} \\\\"


def latex(text: str) -> str:
    r"""Return a text as LaTeX sets it.

    >>> latex("50% of a_b, −1.2")
    '50\\% of a\\_b, $-$1.2'
    """
    return "".join(_LATEX.get(letter, letter) for letter in visible(text, LONGEST))


def to_csv(numbers: Numbers) -> str:
    """Return tidy numbers, unrounded; what is not known is an empty field.

    >>> print(to_csv(Numbers(("client", "gain"), ((0, 0.5), (1, None)))), end="")
    client,gain
    0,0.5
    1,
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_field, numbers.columns))
    writer.writerows([_field(value) for value in row] for row in numbers.rows)
    return file.getvalue()


def _field(value: Any) -> Any:
    """Return a field; a text that a spreadsheet would take for a formula is kept a text."""
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        return value
    # Some programs strip what comes first, or fold wide forms, and then see a formula.
    shown = visible(value, LONGEST)
    return f"'{shown}" if unicodedata.normalize("NFKC", shown.lstrip())[:1] in FORMULA else shown
