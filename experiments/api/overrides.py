"""What is said in Python, as the command line says it.

Keyword arguments become overrides, so that everything behind (composition, checks, messages, the
run's record) is the command's own. A part that is an object becomes its ``_target_``: by name if
another process could import it, else as an object of this process.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import math
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from experiments.config.process_objects import Objects
from fedfuse.errors import ConfigError

OPTION = "option"
"""The word in a mapping that chooses a group's option: ``dict(option="dirichlet", alpha=0.1)``."""

TARGET = "_target_"
_WORD = re.compile(r"[A-Za-z_][\w./-]*")
_SPECIAL = frozenset({"null", "true", "false", "nan", "inf"})
_DATA = re.compile(r"(.*\.)?dataset")


def lines_of(
    words: Sequence[object],
    keywords: Mapping[str, Any],
    objects: Objects,
    *,
    who: str = "simulate",
    sweeps: bool = False,
) -> list[str]:
    """Return overrides as on the command line.

    Args:
        words: Overrides as text, or as mappings of dotted keys.
        keywords: Dotted keys and groups, with values, mappings or objects.
        objects: Keeps what only this process knows.
        who: The function that was called, for messages.
        sweeps: Whether a list holds several values, each a run of its own.

    Raises:
        ConfigError: If something is neither.
    """
    lines: list[str] = []
    for word in (*words, keywords):
        if isinstance(word, str) and "=" in word:
            lines.append(word)
        elif isinstance(word, Mapping):
            for key, value in word.items():
                if sweeps and isinstance(value, list):
                    lines.append(_axis(str(key), value, objects))
                else:
                    lines += _lines(str(key), as_node(str(key), value, objects))
        else:
            raise ConfigError(
                f"fedfuse.{who} takes overrides as text, mappings and keyword arguments",
                got=f"{word!r:.100}",
                allowed="'KEY=VALUE', {'KEY': VALUE}, or KEY=VALUE as a keyword argument",
                next_step=f"Write fedfuse.{who}('method=knfu', seed=0).",
            )
    return lines


def _axis(key: str, values: list[Any], objects: Objects) -> str:
    """Return the override that sweeps over several values."""
    nodes = [as_node(key, value, objects) for value in values]
    if not nodes:
        raise ConfigError(f"{key} is swept over no values", got="[]")
    if all(isinstance(node, dict) and set(node) == {TARGET} for node in nodes):
        key, nodes = f"{key}.{TARGET}", [node[TARGET] for node in nodes]
    if any(isinstance(node, dict) for node in nodes):
        raise ConfigError(
            f"{key} is swept over objects with parameters, which are several keys each",
            allowed="options by their names, or functions and objects without parameters",
            next_step="Sweep over the parameter: {'" + key + ".NAME': [1, 2]}.",
        )
    return f"{key}={','.join(map(text, nodes))}"


def _lines(key: str, node: Any, mark: str = "") -> Iterator[str]:
    """Yield the overrides that set a key, or everything below it."""
    if not isinstance(node, dict) or not node:
        yield f"{mark}{key}={text(node)}"
        return
    # What stands beside a target of one's own is new to the configuration.
    inner = "++" if TARGET in node else mark
    for name, value in node.items():
        if name == OPTION:
            yield f"{key}={text(value)}"
        else:
            yield from _lines(f"{key}.{name}", value, "" if name == TARGET and not mark else inner)


def text(value: Any) -> str:
    """Return a plain value as the command line has it.

    >>> [text(value) for value in (None, True, 0.1, "knfu", "a, b", ["x", 1], "1")]
    ['null', 'true', '0.1', 'knfu', "'a, b'", '[x,1]', "'1'"]
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{text(key)}:{text(item)}' for key, item in value.items())}}}"
    plain = _WORD.fullmatch(value) and value.lower() not in _SPECIAL
    return value if plain else str(QuotedString(value, Quote.single).with_quotes())


def as_node(key: str, value: Any, objects: Objects) -> Any:
    """Return a value as a configuration holds it: plain, with a target for every object.

    Args:
        key: The dotted key that it is for.
        value: A value, a mapping, a function, a class, an instance, or arrays.
        objects: Keeps what only this process knows.
    """
    if isinstance(value, str | bool | int | float | None):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Path):
        return str(value)
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    if isinstance(value, Mapping):
        return {str(k): _member(key, str(k), v, objects) for k, v in value.items()}
    if _DATA.fullmatch(key) and not callable(value):
        return _data(value, objects)
    if key == "continue_from" and hasattr(value, "folder"):  # a Run
        return str(value.folder)
    if isinstance(value, list | tuple | range):
        return [as_node(f"{key}.{i}", item, objects) for i, item in enumerate(value)]
    return _part(key, value, objects)


def _member(key: str, name: str, value: Any, objects: Objects) -> Any:
    if name == TARGET and callable(value):
        return _target(value, objects)
    return as_node(f"{key}.{name}", value, objects)


def _data(value: Any, objects: Objects) -> dict[str, Any]:
    """Return the node of a data set that is there already; its fingerprint is its name."""
    from fedfuse.data.arrays import from_arrays
    from fedfuse.data.raw import RawDataset

    raw = value
    if not isinstance(raw, RawDataset):
        if not isinstance(value, tuple | list) or len(value) not in (2, 4):
            raise ConfigError(
                "dataset is no data set",
                got=_kind(value),
                allowed="(x, y), (x, y, x_test, y_test), a fedfuse.data.raw.RawDataset, a "
                "function that returns one, or the name of an option",
            )
        raw = from_arrays(*value)
    said = [raw.name, raw.fingerprint, list(raw.class_names)]
    return {TARGET: objects.add(lambda: raw, raw.name, content=said)}


def _part(key: str, value: Any, objects: Objects) -> dict[str, Any]:
    """Return the node of a function, a class or an instance."""
    if isinstance(value, functools.partial) and not value.args:
        inner = {name: as_node(f"{key}.{name}", item, objects) for name, item in _named(value)}
        return {TARGET: _target(value.func, objects), **inner}
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return {TARGET: _target(value, objects)}
    if is_dataclass(value) and (node := _of_fields(key, value, objects)) is not None:
        return node
    if hasattr(value, "state_dict") and hasattr(value, "parameters"):  # a finished model
        return {TARGET: objects.add(lambda: copy.deepcopy(value), _name(value), content=value)}
    name = _name(value)
    # A class that is always this one instance: parts are built, and this one is there already.
    same = type(name, (), {"__new__": lambda _: value, "__module__": type(value).__module__})
    return {TARGET: objects.add(same, name, content=value)}


def _named(part: functools.partial[Any]) -> list[tuple[str, Any]]:
    return list(part.keywords.items())


def _of_fields(key: str, value: Any, objects: Objects) -> dict[str, Any] | None:
    """Return a dataclass by its class and its fields; None if those are not all it is."""
    node = {TARGET: _target(type(value), objects)}
    for entry in fields(value):
        given = getattr(value, entry.name)
        if not entry.init or not _is_plain(given):
            return None
        node[entry.name] = as_node(f"{key}.{entry.name}", given, objects)
    return node


def _is_plain(value: Any) -> bool:
    """Tell whether a field can be written down so that a like part is built of it."""
    if isinstance(value, Enum):
        return isinstance(value, str)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | bool | int | float | None | Path | types.FunctionType) or (
        isinstance(value, type) or (is_dataclass(value) and not isinstance(value, type))
    )


def _target(value: Callable[..., Any], objects: Objects) -> str:
    """Return by which name a function or class is imported, or the one it has in this process."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    if isinstance(module, str) and module != "__main__" and "<" not in name:
        found: Any = sys.modules.get(module)
        for word in name.split("."):
            found = getattr(found, word, None)
        if found is value and importlib.util.find_spec(module) is not None:
            return f"{module}.{name}"
    return objects.add(value, _name(value))


def _name(value: Any) -> str:
    """Return what tables call an object."""
    name = str(getattr(value, "__name__", type(value).__name__))
    return name.strip("<>")


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    word = type(value).__name__ if shape is None else f"one array of shape {list(shape)}"
    return f"{word} of length {len(value)}" if isinstance(value, tuple | list) else word
