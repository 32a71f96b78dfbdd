"""Print on any terminal: a character that its encoding lacks is shown as a near one."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

_NEAR = "near"
_PLAIN = dict(
    zip("·–−×±≤≥…─│→αβ▁▂▃▄▅▆▇█░▒▓•✓✗‘’“”", "---x~<>~-|>ab_.-:=+*#.:#*vx''\"\"", strict=True)
)
"""One character for one, so that columns stay in line."""


def any_character() -> None:
    """Let standard output and standard error take every character, whatever their encoding.

    A cluster's ``LC_ALL=C``, a Windows pipe (cp1252) and a file name that is no UTF-8 would
    otherwise end a run after its training, at the first character that cannot be written.
    """
    codecs.register_error(_NEAR, _near)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_NEAR)


def _near(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded, as an error handler of :mod:`codecs` does."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def plain(text: str) -> str:
    """Return the text in ASCII, character by character.

    >>> plain("mnist · Zoë ▁█ 猫")
    'mnist - Zoe _# ?'
    """
    return "".join(_PLAIN.get(c) or _letter(c) for c in text)


def _letter(character: str) -> str:
    """Return the letter without its accents, or a question mark."""
    bare = unicodedata.normalize("NFKD", character)[0]
    return bare if bare.isascii() else "?"
