"""What is said in Python, as the command line says it.

Keyword arguments become overrides, so that everything behind (composition, checks, messages, the
run's record) is the command's own. A part that is an object becomes its ``_target_``: by name if
another process could import it, else as an object of this process.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from experiments.config.process_objects import Objects
from experiments.config.words import OPTION, TARGET, assignments, axis
from fedfuse.errors import ConfigError

_DATA = re.compile(r"(.*\.)?dataset(\.domains\.\d+)?")


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
                if sweeps and (isinstance(value, range | list) or _is_row(value)):
                    lines.append(axis(str(key), [as_node(str(key), v, objects) for v in value]))
                else:
                    lines += assignments(str(key), as_node(str(key), value, objects))
        else:
            raise ConfigError(
                f"fedfuse.{who} takes overrides as text, mappings and keyword arguments",
                got=f"{word!r:.100}",
                allowed="'KEY=VALUE', {'KEY': VALUE}, or KEY=VALUE as a keyword argument",
                next_step=f"Write fedfuse.{who}('method=knfu', seed=0).",
            )
    return lines


def _is_row(value: object) -> bool:
    """Tell whether a value is numbers in a row, as ``numpy.logspace`` returns them."""
    return len(getattr(value, "shape", ())) == 1 and callable(getattr(value, "tolist", None))


def as_node(key: str, value: Any, objects: Objects) -> Any:
    """Return a value as a configuration holds it: plain, with a target for every object.

    Args:
        key: The dotted key that it is for.
        value: A value, a mapping, a function, a class, an instance, or arrays.
        objects: Keeps what only this process knows.
    """
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, str | bool | int | float | None):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _member(key, str(k), v, objects) for k, v in value.items()}
    if _DATA.fullmatch(key) and not callable(value):
        return _data(value, objects)
    if key == "continue_from" and hasattr(value, "folder"):  # a Run
        return str(value.folder)
    if key == "features" and not is_dataclass(value):  # a module, which is one key of the option
        return {OPTION: "custom", "module": _part(f"{key}.module", value, objects)}
    if callable(getattr(value, "tolist", None)) and hasattr(value, "shape"):  # numbers
        return value.tolist()
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
                next_step="Stack its samples: x, y = zip(*dataset); dataset=(torch.stack(x), y)."
                if hasattr(value, "__getitem__") and not isinstance(value, tuple | list)
                else None,
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
