"""Tables as every command prints them."""

from __future__ import annotations

from rich import box
from rich.table import Table

from experiments.terminal.literal import literal


def new_table(title: str | None = None, *, narrow: bool = False) -> Table:
    """Return an empty table: a rule below its head, no frame.

    Args:
        title: What stands above it.
        narrow: Leave one space between columns less; with a title there always is.
    """
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=title is not None,
        padding=(0, 1, 0, 0) if narrow or title is not None else (0, 1),
        title=None if title is None else literal(title),
        title_justify="left",
        title_style="bold",
    )
