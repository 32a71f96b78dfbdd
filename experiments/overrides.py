"""Read what the user typed as KEY=VALUE, before Hydra composes anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig

from experiments.hints import unknown_key, unknown_option, unknown_parameter
from experiments.schema import key_type
from fedfuse.errors import ConfigError

CUSTOM = "custom"
"""The option of a group that takes any ``_target_``."""


def parse(lines: Iterable[str], loader: ConfigLoader, *, multirun: bool) -> list[Override]:
    """Parse the overrides.

    Raises:
        ConfigError: If one is malformed, given twice, or a sweep without ``-m``.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: dict[str, Override] = {}
    for line in lines:
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            quoting = (
                "Quote a value that holds any of , : = ( ) [ ] { } like this: "
                "\"KEY='some, value'\"."
            )
            raise ConfigError(
                f"cannot read '{line}'",
                allowed="KEY=VALUE",
                next_step=quoting if "=" in line else None,
            ) from error
        key = name(override)
        if key in parsed:
            raise ConfigError(
                f"'{key}' is given twice: {parsed[key].input_line} and {line}.",
                next_step="Keep one.",
            )
        if override.is_sweep_override() and not multirun:
            as_list = "" if key_type(key) else f", or write {key}=[...] for a list"
            raise ConfigError(
                f"'{line}' names several values.",
                next_step=f"Add -m to run each of them{as_list}.",
            )
        parsed[key] = override
    return list(parsed.values())


def name(override: Override) -> str:
    """Return the key of an override without its ``+`` or ``~``."""
    return override.key_or_group + (f"@{override.package}" if override.package else "")


def values(override: Override) -> list[Any]:
    """Return every value that an override takes; more than one in a sweep."""
    if override.is_sweep_override() and override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    return [override.value()]


def groups(loader: ConfigLoader) -> list[str]:
    """Return the config groups, without Hydra's own."""
    return [group for group in loader.list_groups("") if group != "hydra"]


def is_choice(override: Override, loader: ConfigLoader) -> bool:
    """Tell whether an override chooses an option of a group."""
    return bool(loader.get_group_options(override.key_or_group))


def check_options(overrides: Iterable[Override], loader: ConfigLoader) -> None:
    """Refuse options and groups that do not exist."""
    for override in overrides:
        group = override.key_or_group
        if is_choice(override, loader):
            options = loader.get_group_options(group)
            for value in values(override):
                if value is None or str(value) not in options:
                    shown = "null" if value is None else value
                    raise unknown_option(group, shown, options)
        elif "/" in group or override.package:
            raise unknown_key(group, groups(loader))


def expand_custom(overrides: Iterable[Override], loader: ConfigLoader) -> list[str]:
    """Return the overrides as text, with what a part of the user's own needs added.

    ``partitioner._target_=mine.by_halves`` alone chooses ``partitioner=custom``, and a custom part
    takes any parameter without Hydra's ``+``.
    """
    given = {name(override): override for override in overrides}
    custom = set()
    for group in groups(loader):
        choice, target = given.get(group), given.get(f"{group}._target_")
        if CUSTOM not in loader.get_group_options(group):
            continue
        if (choice is None and target is not None) or (
            choice is not None and values(choice) == [CUSTOM]
        ):
            custom.add(group)
    lines = [f"{group}={CUSTOM}" for group in sorted(custom) if group not in given]
    for key, override in given.items():
        line = str(override.input_line)
        group, _, parameter = key.partition(".")
        lines.append(f"++{line}" if group in custom and parameter and line[0] not in "+~" else line)
    return lines


def check_keys(overrides: Iterable[Override], cfg: DictConfig, group_names: Iterable[str]) -> None:
    """Refuse overrides of keys that ``cfg`` does not have.

    Args:
        overrides: Those that set values (not those that choose options).
        cfg: The configuration composed from the chosen options alone, with its ``hydra`` node.
        group_names: The config groups.
    """
    choices = cfg.hydra.runtime.choices
    for override in overrides:
        parts = override.key_or_group.split(".")
        if override.is_add() or override.is_force_add():
            parts = parts[:-1] if len(parts) > 1 else parts
        node: Any = cfg
        for depth, part in enumerate(parts):
            if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
                node = node._get_node(int(part))
            elif isinstance(node, DictConfig) and part in node:
                node = node._get_node(part)
            elif depth == 0 or not isinstance(node, DictConfig):
                known = _dotted(cfg) if parts[0] != "hydra" else _dotted(cfg.hydra, "hydra.")
                raise unknown_key(override.key_or_group, {*known, *group_names})
            else:
                owner = ".".join(parts[:depth])
                if owner in choices and owner in group_names:
                    owner = f"{owner}={choices[owner]}"
                known = [str(key) for key in node if key != "_target_"]
                raise unknown_parameter(owner, part, known)


def _dotted(node: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys of a config, without Hydra's own."""
    keys = []
    items: Mapping[Any, Any] = {key: node._get_node(key) for key in node}
    for key, value in items.items():
        if key in ("hydra", "_target_"):
            continue
        keys.append(f"{prefix}{key}")
        if isinstance(value, DictConfig) and not (value._is_none() or value._is_missing()):
            keys += _dotted(value, f"{prefix}{key}.")
    return keys
