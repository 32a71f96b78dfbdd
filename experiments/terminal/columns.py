"""Rows of cells as lines: aligned, and the last cell folded where a terminal ends."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

PAGE = 80
"""Columns of a page that does not go to a terminal."""
WIDEST = 100
"""Columns of a page on a wide terminal: longer lines are hard to read."""
LEAST = 24
"""Columns that the last cell has at least beside the others; else it comes below them."""


def terminal() -> int | None:
    """Return the columns of the terminal; None if the output goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def page() -> int:
    """Return the columns for text that is read as a page."""
    return min(terminal() or PAGE, WIDEST)


def aligned(rows: Sequence[Sequence[str]], width: int | None, indent: int = 0) -> Iterator[str]:
    """Yield the lines of rows of equally many cells.

    Args:
        rows: The cells.
        width: Columns; None for one line a row, however long, as programs want them.
        indent: Columns before the first cell.

    >>> print(*aligned([("a", "one two"), ("bcd", "three")], None), sep="|")
    a    one two|bcd  three
    >>> print(*aligned([("a", "one two three four five six")], 30), sep="|")
    a  one two three four five six
    >>> print(*aligned([("a", "one two three four five six seven")], 30), sep="|")
    a  one two three four five six|   seven
    """
    columns = list(zip(*rows, strict=True))[:-1]
    widths = [max(map(len, column)) for column in columns]
    left = indent + sum(widths) + 2 * len(widths)
    for *cells, last in rows:
        padded = [f"{cell:<{wide}}  " for cell, wide in zip(cells, widths, strict=True)]
        head = " " * indent + "".join(padded)
        if width is None or not last:
            yield f"{head}{last}".rstrip()
        elif width - left >= LEAST:
            first, *more = folded(last, width - left)
            yield head + first
            yield from (" " * left + line for line in more)
        else:
            yield head.rstrip()
            yield from (" " * (indent + 4) + line for line in folded(last, width - indent - 4))


def folded(text: str, width: int) -> list[str]:
    """Return the lines of a text; words longer than a line stay whole, so that they can be copied.

    >>> folded("see my_module.my_function there", 10)
    ['see', 'my_module.my_function', 'there']
    """
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False)
