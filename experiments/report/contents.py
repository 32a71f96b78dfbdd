"""What a report says, before anybody decides how it looks."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.report.figure import Figure
from experiments.report.table import Table


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
