"""Names from data and configurations, made safe to look at: nothing in them acts, nothing hides."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 300
"""Characters of a name that are shown; a name of a megabyte tells no more."""

JOINERS = "\u200c\u200d"
"""Format characters that Persian, Indic scripts and emoji need; they move nothing."""

_SUSPECT = re.compile(r"[^ -~]")


def visible(text: str, most: int | None = LONGEST, *, lines: bool = False) -> str:
    r"""Return a text with everything that acts or hides written out.

    Control characters (a terminal obeys them, XML forbids them), bidirectional overrides and other
    format characters (they show another text than there is), line separators, lone surrogates
    (nothing can encode them) and what Unicode has not assigned become their escapes.

    Args:
        text: Any text.
        most: The longest that is returned; of more, the beginning, an ellipsis and the length.
        lines: Whether line feeds stay, for messages of several lines.

    >>> visible("\x1b[31mred\x1b[0m"), visible("abc\u202ecba"), visible("a\nb\x00")
    ('\\x1b[31mred\\x1b[0m', 'abc\\u202ecba', 'a\\nb\\x00')
    >>> visible("x" * 9, most=4)
    'xxxx… (9 characters)'
    """
    length = len(text)
    if (most is None or length <= most) and text.isascii() and text.isprintable():
        return text
    kept = text if most is None else text[:most]
    shown = _SUSPECT.sub(lambda found: _escaped(found[0], lines=lines), kept)
    return shown if len(kept) == length else f"{shown}… ({length} characters)"


def _escaped(letter: str, *, lines: bool) -> str:
    if (lines and letter == "\n") or letter in JOINERS:
        return letter
    # Control, format, surrogate, private, unassigned; line and paragraph separators.
    hidden = unicodedata.category(letter)[0] == "C" or letter in "\u2028\u2029"
    return letter.encode("unicode_escape").decode() if hidden else letter
