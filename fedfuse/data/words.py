"""Texts as rows of word numbers: what models of text take, made once and kept in the cache.

A word's number is a hash, so no vocabulary is learned, kept or sent: the same word has the same
number in every client, public set and data set, and no number tells of texts that are private.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from fedfuse.errors import DataError, require
from fedfuse.validation import require_count

NUMBERS = 2**24 - 1
"""How many numbers there are, from 1: all are exact in float32, in which inputs travel."""
WORDS, MOST_WORDS = 64, 4096
"""Of a text that count, unless somebody says otherwise and at most."""
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+|[^\w\s]"
)
"""A character of a script without spaces, a run of letters and digits, or any other sign."""


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case; signs are words of one character.

    >>> split_words("Don't panic: 42!")
    ['don', "'", 't', 'panic', ':', '42', '!']
    """
    return _WORD.findall(text.lower())


def word_number(word: str) -> int:
    """Return a word's number, from 1 to :data:`NUMBERS`; 0 stands for no word.

    >>> word_number("panic")
    11434261
    """
    digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % NUMBERS + 1


def number_words(texts: Sequence[str | None], words: int, where: str) -> npt.NDArray[np.int32]:
    """Return the numbers of each text's first words, 0 where a text has no more, int32 [N, words].

    Args:
        texts: The texts; None for a cell without one.
        words: How many words of a text count at most.
        where: Where they are from, for messages.

    Raises:
        DataError: If a text has no word.
    """
    rows = np.zeros((len(texts), words), dtype=np.int32)
    known: dict[str, int] = {}
    for row, text in zip(rows, texts, strict=True):
        for place, word in enumerate(split_words(text or "")[:words]):
            if word not in known:
                known[word] = word_number(word)
            row[place] = known[word]
    if len(empty := np.flatnonzero(rows[:, 0] == 0)):
        raise DataError(
            f"{where} has cells without a word",
            got=f"{len(empty)} of {len(texts)}, the first in row {empty[0]}, counted from 0",
            next_step="Remove these rows.",
        )
    return rows


def check_words(owner: str, words: object) -> None:
    """Raise :class:`ParameterError` unless ``words`` is a number of words that a text may have."""
    require_count(owner, "words", words)
    require(words <= MOST_WORDS, owner, "words", words, f"at most {MOST_WORDS}")  # type: ignore[operator]
