"""``protocol=paper``: the settings of a method's authors, as words that stand behind the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.config.folder import CONF
from experiments.config.pages import groups
from experiments.config.words import assignments
from fedfuse.errors import ConfigError

GROUP, PAPER = "protocol", "paper"
FOLDER = CONF / GROUP / PAPER
"""A file for each method whose authors' settings were read, in the form of a study."""


def papers() -> dict[str, Path]:
    """Return the methods that have a protocol of their authors, each with its file."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}


def under_protocol(lines: Sequence[str]) -> list[str]:
    """Return the overrides of one run with what its protocol adds to them.

    Args:
        lines: The overrides of one run, aliases spelt out. What they say stays: of a group whose
            option they choose, or whose target they name, the protocol says nothing.

    Raises:
        ConfigError: If the method has no protocol of its authors.
    """
    given = {line.lstrip("+~").partition("=")[0]: line.partition("=")[2] for line in lines}
    if given.get(GROUP) != PAPER:
        return list(lines)
    method = given.get("method", groups()["method"][0])
    if method not in (known := papers()):
        raise ConfigError(
            f"method={method} has no {GROUP}={PAPER}: its authors' settings are not here",
            allowed=", ".join(known),
            next_step="Choose one of these methods, or leave out protocol.",
        )
    added = {**settings(method), "method.name": f"{method}_{PAPER}"}
    chosen = {
        key.removesuffix("._target_") for key in given if key.removesuffix("._target_") in groups()
    }
    words = (word for key, value in added.items() for word in assignments(key, value))
    return [*lines, *(word for word in words if not _said(word, given, chosen))]


def settings(method: str) -> dict[str, Any]:
    """Return what a method's authors set, as a nested mapping."""
    return dict(yaml.safe_load(papers()[method].read_text(encoding="utf-8")))


def _said(word: str, given: Mapping[str, str], chosen: set[str]) -> bool:
    key = word.partition("=")[0]
    return key in given or key.partition(".")[0] in chosen - {"method"}
