"""A configuration as plain dicts and lists, at a twentieth of what OmegaConf takes for it.

A run asks for its own some two hundred times, as a whole and part by part.
"""

from __future__ import annotations

import functools
import pickle
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, ValueNode


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
    except LookupError:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=throw_on_missing)


def _taken(node: Any) -> Any:
    """Return what a node holds.

    Raises:
        LookupError: If it is anything else than values: it is missing, or refers to another key.
    """
    if isinstance(node, ValueNode):
        value = node._val
        if value is None or type(value) in (bool, int, float):
            return value
        if type(value) is str and "${" not in value and value != "???":
            return value
    elif isinstance(node, DictConfig | ListConfig):
        held = node._content
        if isinstance(held, dict):
            return {key: _taken(child) for key, child in held.items()}
        if isinstance(held, list):
            return [_taken(child) for child in held]
        if held is None:
            return None
    raise LookupError


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
