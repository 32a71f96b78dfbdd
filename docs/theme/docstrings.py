"""Docstrings as Markdown: bare doctests would be quotations, and Sphinx roles stay as written."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

DOCTEST = re.compile(r"^( *)>>> .*\n?(?:^\1\S.*\n?)*", re.MULTILINE)
ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):`~?([^`]+)`")


class Docstrings(Extension):
    """Put each doctest into a fence, and the names of roles into backticks."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring before it is parsed."""
        if obj.docstring:
            text = DOCTEST.sub(_fenced, obj.docstring.value)
            obj.docstring.value = ROLE.sub(r"`\1`", text)


def _fenced(match: re.Match[str]) -> str:
    indent, text = match[1], match[0].rstrip("\n")
    return f"{indent}```pycon\n{text}\n{indent}```\n"
