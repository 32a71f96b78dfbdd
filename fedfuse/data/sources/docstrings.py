"""The default text: paragraphs of Python's own documentation, in a file beside this one."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.data.words import WORDS, check_words, number_words
from fedfuse.errors import DataError
from fedfuse.types import Samples

EACH = 500
FILE = Path(__file__).with_name("docstrings.json")
"""JSON, because Flower takes no other file with data into the app that it bundles."""


def docstrings(words: int = WORDS) -> RawDataset:
    """Return 500 paragraphs of each of ten topics, without a test split; nothing is downloaded.

    They are from the docstrings of Python's standard library, and their topic is that of the
    module they are from. The file names its source and licence.

    Args:
        words: How many words of a text count at most.

    Raises:
        DataError: If the file is not as it was installed.
    """
    check_words("docstrings", words)
    key = cache_key("docstrings", {"words": words}, {FILE.name: FILE})
    return cached("docstrings", key, lambda: _decode(words))


def read_docstrings() -> tuple[list[str], tuple[str, ...]]:
    """Return the texts, those of one topic after those of another, and the topics.

    Raises:
        DataError: If the file is not as it was installed.
    """
    try:
        found = json.loads(FILE.read_bytes())
        texts = zlib.decompress(base64.b64decode(found["texts"])).decode().splitlines()
        return texts, tuple(found["topics"])
    except (OSError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise DataError(
            f"{FILE} is damaged", got=str(error), next_step="Reinstall fedfuse."
        ) from error


def _decode(words: int) -> Decoded:
    texts, topics = read_docstrings()
    labels = np.repeat(np.arange(len(topics)), EACH)
    return Decoded(Samples(number_words(texts, words, str(FILE)), labels), None, topics)
