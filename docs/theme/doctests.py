"""Show the doctests of docstrings as code: bare ``>>>`` lines would be quotations in Markdown."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

DOCTEST = re.compile(r"^( *)>>> .*\n?(?:^\1\S.*\n?)*", re.MULTILINE)


class Doctests(Extension):
    """Put each doctest of a docstring into a fence."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    indent, text = match[1], match[0].rstrip("\n")
    return f"{indent}```pycon\n{text}\n{indent}```\n"
