"""Domains by name: the options of the group ``dataset``, of which one data set may have several."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.config.hints import unknown_option
from experiments.config.overrides import options_of
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files.paths import expand

GROUP = "dataset"
DOMAINS = "fedfuse.data.sources.domains.domains"
LOCAL = "fedfuse.data.sources.local.local"


def spell_out_domains(cfg: DictConfig, loader: ConfigLoader) -> None:
    """Write each domain that is named into a configuration as the option has it, the user's too."""
    read = loader.repository.load_config  # type: ignore[attr-defined]
    for key in (GROUP, f"public.{GROUP}"):
        node = OmegaConf.select(cfg, key)
        listed = node.get("domains") if isinstance(node, DictConfig) else None
        if node is None or listed is None or node.get("_target_") != DOMAINS:
            continue
        plain: Any = OmegaConf.to_container(listed) if OmegaConf.is_config(listed) else [listed]
        named = isinstance(plain, list) and all(isinstance(i, str | Mapping) for i in plain)
        if not named or len(plain) < 2:
            raise ConfigError(
                f"{key}.domains is not valid",
                got=str(plain),
                allowed="a list of two or more: options of the group dataset, paths",
                next_step=f"Write {key}.domains=[mnist5k,DIR].",
            )
        with open_dict(cfg):
            node.domains = in_full(
                list(plain),
                options_of(GROUP, loader),
                lambda name: OmegaConf.to_container(read(f"{GROUP}/{name}").config),
            )


def in_full(listed: list[Any], names: Collection[str], read: Callable[[str], Any]) -> list[Any]:
    """Return domains as mappings with a ``_target_``, whichever way they are given.

    Args:
        listed: Names, names with what is to differ from the option
            (``{mnist: {path: DIR}}``), paths, and mappings with a target.
        names: The options that there are.
        read: A name to the content of the option's file.

    Raises:
        ConfigError: For a name that is neither an option nor a path.

    >>> in_full(["one", {"one": {"b": 3}}], ["one"], lambda name: {"a": 1, "b": 2})
    [{'a': 1, 'b': 2}, {'a': 1, 'b': 3}]
    """
    found: list[Any] = []
    for item in listed:
        name: Any = item
        other: Any = {}
        if isinstance(item, Mapping) and len(item) == 1 and "_target_" not in item:
            ((name, other),) = item.items()
        if not isinstance(name, str) or not isinstance(other, Mapping):
            found.append(item)
        elif name in names:
            found.append({**read(name), **other})
        elif isinstance(item, str) and (not name.isidentifier() or _exists(name)):
            found.append({"_target_": LOCAL, "path": name})
        else:
            raise unknown_option(GROUP, name, list(names))
    return found


def _exists(name: str) -> bool:
    try:
        return Path(expand(name)).exists()
    except (FedfuseError, OSError):
        return False
