"""Which code a configuration may name when it was written by somebody else.

A configuration that is composed from the user's own command line and config folders may name any
``_target_``: the user wrote it. One that is read back from a run folder may come from anybody, so
of its targets only those count that fedfuse ships, and those that the user names again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from experiments.usage import CONF
from fedfuse.errors import ConfigError

LARGEST, DEEPEST = 2**20, 30
"""Bytes and levels of a configuration; fedfuse's own has some 3,000 and 4."""


@lru_cache(maxsize=1)
def shipped_targets() -> frozenset[str]:
    """Return the targets that fedfuse's own configuration names."""
    return frozenset(
        target
        for file in CONF.rglob("*.yaml")
        for _, target in targets(yaml.safe_load(file.read_text(encoding="utf-8")))
        if target != "???"
    )


def targets(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the target of every part in a configuration.

    >>> list(targets({"rule": {"_target_": "m.f", "inner": [{"_target_": "m.g"}]}}))
    [('rule', 'm.f'), ('rule.inner[0]', 'm.g')]
    """
    if isinstance(node, Mapping):
        if node.get("_target_") is not None:
            yield where, str(node["_target_"])
        for key, value in node.items():
            yield from targets(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from targets(value, f"{where}[{number}]")


def check_targets(config: Mapping[str, Any], source: object, own: Iterable[str] = ()) -> None:
    """Refuse a configuration of a stranger that names code of its own.

    Args:
        config: The configuration.
        source: Where it came from, for messages.
        own: Targets that the user names on the command line.

    Raises:
        ConfigError: For the first target that neither fedfuse ships nor the user names.
    """
    allowed = shipped_targets() | set(own)
    for where, target in targets(config):
        if target not in allowed:
            raise ConfigError(
                f"{source} names code that is not fedfuse's own, which is not run unasked",
                got=f"{where}._target_={target}",
                next_step=f"If you trust it, add {where}._target_={target} to your command.",
            )


def _check_events(text: str) -> None:
    """Refuse aliases and deep nesting, of which the latter takes a parser minutes."""
    depth = 0
    # The parser that is written in C, where there is one: the other one is quadratic in depth.
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"the alias *{event.anchor}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")


def read_config(path: Path) -> dict[str, Any]:
    """Return a configuration that somebody wrote, as plain values; nothing in it is run.

    Raises:
        ConfigError: If the file is missing, too large, no mapping, refers to itself (anchors can
            make a page of text expand to gigabytes) or asks for values from elsewhere (a ``${...}``
            may read the environment).
    """
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= LARGEST else ""
        if size > LARGEST:
            raise ValueError(f"{size} bytes, more than {LARGEST}")
        _check_events(text)
        config = yaml.safe_load(text)
        if not isinstance(config, dict):
            raise ValueError(f"a {type(config).__name__} where keys should be")
        if asked := re.search(r"\$\{[^}]*\}", text):
            raise ValueError(f"{asked.group()[:100]}, to be filled in")
    # A parser's recursion ends in RecursionError, a lone surrogate in UnicodeError (a ValueError).
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"The configuration {path} cannot be read",
            got=words or type(error).__name__,
            allowed="plain YAML as fedfuse writes it",
        ) from error
    return config
