"""Parts that are objects of this Python process, under names that say so.

A notebook's function, a lambda or a table of arrays has no name by which another process could
import it. It is kept here for as long as the process lives, and a configuration names it like any
other part: ``_target_: experiments.config.process_objects.KEY.NAME``. The key is a hash of what
the object says (a function's code, an array's values), so that a run that is resumed with another
object is not taken for the same run, and one that is resumed without it says what it needs.
"""

from __future__ import annotations

import functools
import hashlib
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fedfuse.errors import ConfigError

PREFIX = f"{__name__}."
_KEY = re.compile(r"x[0-9a-f]{12}")


class Objects:
    """The objects of one call; configurations can name them while the block of it runs.

    >>> with Objects() as objects:
    ...     target = objects.add(lambda: 1, "mine")
    >>> target.startswith(PREFIX), target.endswith(".mine")
    (True, True)
    """

    def __init__(self) -> None:
        self.known: dict[str, types.SimpleNamespace] = {}

    def add(self, value: Callable[..., Any], name: str, content: object = None) -> str:
        """Keep an object and return its ``_target_``.

        Args:
            value: What the configuration calls: a function, a class, or what builds the part.
            name: What tables call it.
            content: What the object says, if it is not ``value`` itself.
        """
        word = re.sub(r"\W+", "_", name).strip("_") or "part"
        word = word if word.isidentifier() else f"part_{word}"
        digest = hashlib.blake2b(digest_size=6)
        for piece in _said(value if content is None else content, ()):
            digest.update(piece)
        key = f"x{digest.hexdigest()}"
        self.known.setdefault(key, types.SimpleNamespace()).__dict__[word] = value
        return f"{PREFIX}{key}.{word}"

    def __enter__(self) -> Objects:
        _HELD.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _HELD.remove(self)


_HELD: list[Objects] = []
"""Whose blocks run."""


def is_process_object(target: str) -> bool:
    """Tell whether a ``_target_`` names an object of a Python process."""
    return target.startswith(PREFIX)


def named_again(where: str, target: str) -> str:
    """Return what to do about a run whose part is an object that this process does not have."""
    keyword, _, rest = where.partition(".")
    given = f"{keyword}=..." if not rest else f'**{{"{where}": ...}}'
    return (
        f"Go on from Python with the same object: fedfuse.simulate(resume=FOLDER, {given}), or "
        f"fedfuse.sweep(resume=FOLDER, {given}), where '{target.rsplit('.', 1)[-1]}' is what it "
        "began with."
    )


def __getattr__(name: str) -> Any:
    """Return the objects that share a key.

    Raises:
        ConfigError: If this process has none of it.
    """
    for objects in reversed(_HELD):
        if name in objects.known:
            return objects.known[name]
    if _KEY.fullmatch(name):
        raise ConfigError(
            "A part of this configuration is an object of the Python process that began it, and "
            "this process does not have it",
            got=f"{PREFIX}{name}",
            next_step="Pass the same object to fedfuse.simulate again.",
        )
    raise AttributeError(name)


def _said(value: Any, seen: tuple[int, ...]) -> Iterator[bytes]:
    """Yield what an object says, as bytes that are the same in every process."""
    yield type(value).__qualname__.encode()
    if id(value) in seen:
        return
    if isinstance(value, str | bytes | int | float | complex | bool | None):
        yield repr(value).encode()
        return
    seen = (*seen, id(value))
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        yield repr((array.dtype.str, array.shape)).encode()
        yield array.tobytes() if array.dtype != object else b""
    elif isinstance(value, types.CodeType):
        yield value.co_code
        yield repr((value.co_names, value.co_varnames, value.co_freevars)).encode()
        yield from _each(value.co_consts, seen)
    elif isinstance(value, types.FunctionType):
        yield value.__qualname__.encode()
        cells = [_content(cell) for cell in value.__closure__ or ()]
        yield from _each([value.__code__, value.__defaults__, value.__kwdefaults__, cells], seen)
    elif isinstance(value, functools.partial):
        yield from _each([value.func, value.args, value.keywords], seen)
    elif isinstance(value, Mapping):
        yield from _each([[key, value[key]] for key in value], seen)
    elif isinstance(value, frozenset | set):
        yield from _each(sorted(value, key=repr), seen)
    elif isinstance(value, list | tuple):
        yield from _each(value, seen)
    elif isinstance(value, type):
        yield f"{value.__module__}.{value.__qualname__}".encode()
        own = value.__dict__
        yield from _each([[k, own[k]] for k in sorted(own) if k not in _NO_MATTER], seen)
    elif isinstance(value, types.ModuleType | types.BuiltinFunctionType):
        yield value.__name__.encode()
    elif isinstance(value, types.MethodType):
        yield from _each([value.__func__, value.__self__], seen)
    elif isinstance(value, staticmethod | classmethod):
        yield from _each([value.__func__], seen)
    elif isinstance(value, property):
        yield from _each([value.fget], seen)
    elif hasattr(value, "state_dict"):
        yield from _each([type(value), repr(value), dict(value.state_dict())], seen)
    else:
        yield from _each([type(value), _fields(value)], seen)


_NO_MATTER = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__annotations__"}
    | {"__annotate_func__", "__annotations_cache__", "__static_attributes__", "__parameters__"}
)
"""What of a class says nothing of what it does."""


def _each(values: Any, seen: tuple[int, ...]) -> Iterator[bytes]:
    for value in values:
        yield from _said(value, seen)
    yield b";"


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet bound
        return None


def _fields(value: Any) -> dict[str, Any]:
    slots = [name for cls in type(value).__mro__ for name in cls.__dict__.get("__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return found | dict(getattr(value, "__dict__", {}))
