"""The report's figures in a notebook."""

from __future__ import annotations

import html
import tempfile
from dataclasses import dataclass
from pathlib import Path

from experiments.report import export
from experiments.report.builder import tell
from experiments.results import Results


@dataclass(frozen=True)
class Plot:
    """One figure.

    Args:
        name: Its name in the report.
        title: What it shows.
        svg: The picture.
    """

    name: str
    title: str
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write the picture as an SVG file and return where."""
        target = Path(path)
        target.write_text(self.svg, encoding="utf-8")
        return target

    def __repr__(self) -> str:
        return f"<figure '{self.name}': {self.title}>"


class Plots(tuple[Plot, ...]):
    """Figures, shown one below the other."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return "".join(
            f"<figure><figcaption><b>{html.escape(plot.title)}</b></figcaption>{plot.svg}</figure>"
            for plot in self
        )


def plots(results: Results, names: tuple[str, ...]) -> Plots:
    """Return the figures of a report.

    Args:
        results: What it is about.
        names: Which, such as ``curves`` or ``gains``; all if empty.

    Raises:
        FedfuseError: If there is no such figure.
    """
    parts = export.parts(tell(results), "svg", names)
    with tempfile.TemporaryDirectory(prefix="fedfuse-") as scratch:
        return Plots(
            Plot(part.name, part.title, file.read_text(encoding="utf-8"))
            for part in parts
            for file in export.write([part], "svg", Path(scratch))
        )
