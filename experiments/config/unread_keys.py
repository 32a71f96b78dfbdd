"""Refuse keys that nothing reads: an option that does not exist must not seem to have been used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

import yaml

from experiments.config.folder import CONF
from experiments.config.hints import unknown_key, unknown_option, unknown_parameter
from experiments.config.schema import ExperimentConfig, hints
from fedfuse.errors import ConfigError

OPTIONAL = ("pack", "timeout")
"""Keys that an engine of one's own may leave out."""


def check_keys_are_read(config: Mapping[str, Any]) -> None:
    """Refuse a configuration with a key that nothing reads, wherever it came from.

    The keys of a part are compared with what the part takes where it is built
    (:func:`experiments.config.instantiate.instantiate`).

    Args:
        config: A whole configuration, resolved, without Hydra's own node.

    Raises:
        ConfigError: For the first of them, naming the key that may have been meant.
    """
    types = hints(ExperimentConfig)
    known = [entry.name for entry in fields(ExperimentConfig)]
    for key in map(str, config):
        if key not in known:
            raise unknown_key(key, known)
    for name in known:
        if name not in config:
            raise ConfigError(f"{name} has no value.", next_step=f"Leave out ~{name}.")
        node = config[name]
        if is_dataclass(types[name]):
            _check(name, node, [entry.name for entry in fields(types[name])])
        elif types[name] is Any:
            _check_group(name, node)


def _check_group(name: str, node: Any) -> None:
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"the group '{name}' holds several keys",
            got=repr(node),
            next_step=f"Set {name}=OPTION.",
        )
    if name == "engine":
        engines = engine_options()
        chosen = str(node.get("name"))
        if chosen not in engines:
            raise unknown_option("engine", chosen, engines)
        _check(f"{name}={chosen}", node, list(engines[chosen]))
        for key in engines[chosen]:
            if key not in node and key not in OPTIONAL:
                raise ConfigError(
                    f"engine.{key} has no value.", next_step=f"Add engine.{key}=... to the command."
                )
    elif "_target_" not in node:
        raise ConfigError(
            f"the option of the group '{name}' names no part",
            got=f"keys {', '.join(map(str, node)) or 'none'}",
            next_step=f"Give it a _target_: {name}._target_=my_module.my_part.",
        )
    elif node["_target_"] is None:
        _check(f"{name}=none", node, ["_target_", "seed"] if name == "privacy" else ["_target_"])


def _check(owner: str, node: Any, known: list[str]) -> None:
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"{owner} holds several keys", got=repr(node)[:200], allowed=", ".join(known)
        )
    for key in map(str, node):
        if key not in known:
            raise unknown_parameter(owner, key, [name for name in known if name != "_target_"])


def known_keys(owner: str) -> list[str]:
    """Return the keys that the schema knows below a dotted key; nothing for a group.

    >>> known_keys("checkpoint"), known_keys("scorer")
    (['every', 'keep'], [])
    """
    schema: Any = ExperimentConfig
    for part in owner.split(".") if owner else ():
        schema = hints(schema).get(part) if is_dataclass(schema) else None
    return [entry.name for entry in fields(schema)] if is_dataclass(schema) else []


@lru_cache(maxsize=1)
def engine_options() -> dict[str, dict[str, Any]]:
    """Return the engines, each with its keys and their defaults."""
    files = sorted((CONF / "engine").glob("*.yaml"))
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}
