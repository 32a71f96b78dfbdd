"""Text for the terminal in which a stranger's name cannot act: no markup, no escape sequence."""

from __future__ import annotations

from rich.text import Text

from fedfuse.safe_text import visible


def literal(text: str, style: str = "") -> Text:
    r"""Return a text as rich prints it: ``[red]`` is five characters, an escape is written out.

    >>> str(literal("[red]\x1b[2J"))
    '[red]\\x1b[2J'
    """
    return Text(visible(text, None, lines=True), style)
