"""A configuration as plain dicts and lists, at a twentieth of what OmegaConf takes for it.

A run asks for its own some two hundred times, as a whole and part by part.
"""

from __future__ import annotations

import functools
import pickle
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, ValueNode
from omegaconf.errors import OmegaConfBaseException

from fedfuse.errors import ConfigError


def plain(node: Any, *, throw_on_missing: bool = False) -> Any:
    """Return ``OmegaConf.to_container(node, resolve=True)``; what is no configuration stays.

    Args:
        node: A configuration, or a part of one.
        throw_on_missing: Whether a value that is missing is an error.

    Raises:
        OmegaConfBaseException: As OmegaConf itself.

    >>> plain(OmegaConf.create({"a": [1, None], "b": "${a}"}))
    {'a': [1, None], 'b': [1, None]}
    """
    if not OmegaConf.is_config(node):
        return node
    try:
        return _taken(node)
    except (LookupError, OmegaConfBaseException):  # OmegaConf has the words for it
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=throw_on_missing)


def _taken(node: Any) -> Any:
    """Return what a node holds.

    Raises:
        LookupError: If it is missing, or no plain value.
        OmegaConfBaseException: If it refers to what there is not.
    """
    value: Any = None
    if isinstance(node, ValueNode):
        value = node._val
        if value is None or type(value) in (bool, int, float):
            return value
        if type(value) is str and "${" not in value and value != "???":
            return value
    elif isinstance(node, DictConfig | ListConfig):
        value = node._content
        if isinstance(value, dict):
            return {key: _taken(child) for key, child in value.items()}
        if isinstance(value, list):
            return [_taken(child) for child in value]
        if value is None:
            return None
    if type(value) is not str or "${" not in value:
        raise LookupError
    found: Any = node._dereference_node()
    return found._val if isinstance(found, ValueNode) else _taken(found)


def complete(node: Any, where: str) -> Any:
    """Return a part of a configuration as plain values.

    Args:
        node: The part.
        where: Its dotted key.

    Raises:
        ConfigError: For a value that is missing or cannot be found.
    """
    try:
        return plain(node, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error


class Settings(dict[str, Any]):
    """Plain values whose keys are attributes as well: a DictConfig takes 15 us for each.

    >>> settings(OmegaConf.create({"a": {"b": 1}})).a.b
    1
    """

    def __getattr__(self, key: str) -> Any:
        """Return the value of a key."""
        if key in self:
            return self[key]
        raise AttributeError(key)


def settings(cfg: DictConfig) -> Settings:
    """Return a configuration, without Hydra's own node, to be asked many times.

    Raises:
        ConfigError: For a value that is missing or cannot be found.
    """
    return Settings({k: _asked(complete(cfg[k], k)) for k in map(str, cfg) if k != "hydra"})


def _asked(value: Any) -> Any:
    if isinstance(value, dict):
        return Settings({key: _asked(item) for key, item in value.items()})
    return [_asked(item) for item in value] if isinstance(value, list) else value


def as_yaml(cfg: DictConfig) -> str:
    """Return ``OmegaConf.to_yaml(cfg, resolve=True)``.

    >>> cfg = OmegaConf.create({"a": {}, "b": {"on": [1, "on"]}, "c": "${b}"})
    >>> as_yaml(cfg) == OmegaConf.to_yaml(cfg, resolve=True)
    True
    """
    return "".join(_written(pickle.dumps({key: value})) for key, value in plain(cfg).items())


@functools.lru_cache(maxsize=2048)  # of the keys of two runs few differ
def _written(pickled: bytes) -> str:
    return OmegaConf.to_yaml(pickle.loads(pickled))  # noqa: S301 - our own
