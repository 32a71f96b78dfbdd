"""Call a part of the user's own, and when it fails show its author's frames first.

Whatever a person plugs in (a partitioner, a scorer, a model, a data set, ...) runs deep inside a
run, and a traceback through all of fedfuse hides the one line that matters. Here it is decided
which frames are the author's; whoever reports an error asks here.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from fedfuse.declarations import part_name
from fedfuse.errors import FedfuseError

T = TypeVar("T")
E = TypeVar("E", bound=FedfuseError)

_HOME = Path(__file__).parent.parent
_OURS = tuple(
    str(_HOME / name) + os.sep for name in ("fedfuse", "clients", "server", "experiments")
)
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_NAMED: set[str] = set()
"""Installed packages that a configuration names: their frames are the author's too."""


class PartError(FedfuseError):
    """A part of the user's own raised, cannot be called as it must be, or broke its promise."""


class blamed:  # noqa: N801 - a context manager
    """Turn what an author's code raises within the block into a :class:`PartError`.

    An error of fedfuse's own passes through, and so does a bug of fedfuse's: an exception that
    comes from no frame of the author's, unless the block does nothing but call their part.

    Args:
        what: The part, as in "The scorer my_parts.score"; None where it may be any.
        alone: Whether the block does nothing but call the part.
    """

    def __init__(self, what: str | None = None, *, alone: bool = False) -> None:
        self._what = what
        self._alone = alone

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Raise the :class:`PartError` in the exception's place."""
        if not isinstance(error, Exception) or isinstance(error, FedfuseError):
            return
        if frames(error) or self._alone:
            what = self._what or "Code of your own"
            raise showing(PartError(f"{what} raised {brief(error)}"), error) from error


def call(what: str, part: Callable[..., T], given: Mapping[str, Any]) -> T:
    """Call an author's part with what it is given, by position.

    Args:
        what: The part, as in "The partitioner my_parts.deal".
        part: The part.
        given: Its arguments by the names that the contract has for them.

    Raises:
        PartError: If it cannot be called so, or raises.
    """
    check_call(what, part, list(given))
    with blamed(what):
        return part(*given.values())


def check_call(
    what: str, part: Callable[..., Any], given: Sequence[str], keywords: Sequence[str] = ()
) -> None:
    """Raise unless the part can be called with so many arguments.

    Args:
        what: The part, as in "The scorer my_parts.score".
        part: A function, a bound method or an object that can be called.
        given: The contract's names of what it is given by position.
        keywords: Names of what it is given by keyword.

    Raises:
        PartError: Naming what it must take and what it takes.
    """
    try:
        signature = inspect.signature(part)
    except (TypeError, ValueError):  # some C functions have none; calling them will tell
        return
    try:
        signature.bind(*given, **dict.fromkeys(keywords))
    except TypeError as error:
        name = getattr(part, "__name__", None) or part_name(part)
        asked = ", ".join([*given, *(f"{word}=..." for word in keywords)])
        raise PartError(
            f"{what} cannot be called with what it is given ({error})",
            got=f"{name}{signature}",
            allowed=f"{name}({asked})",
        ) from None


def note_module(module: str) -> None:
    """Take note that a configuration names code of this module."""
    root = module.partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    if root != "torch" and not file.startswith(_OURS):
        _NAMED.add(root)


def is_foreign(part: object) -> bool:
    """Tell whether a part is neither fedfuse's nor torch's.

    >>> import torch, statistics
    >>> is_foreign(functools.partial(torch.optim.SGD, lr=1)), is_foreign(statistics.mean)
    (False, True)
    """
    while isinstance(part, functools.partial):
        part = part.func
    module = getattr(part, "__module__", None) or type(part).__module__
    root = str(module).partition(".")[0]
    file = getattr(sys.modules.get(str(module)), "__file__", None) or ""
    return root != "torch" and not file.startswith(_OURS)


def frames(error: BaseException) -> str:
    """Return the author's frames of an exception as Python prints them; empty if there are none."""
    found = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if _is_theirs(frame.f_code.co_filename, root):
            found.append((frame, line))
    shown = traceback.format_list(traceback.StackSummary.extract(iter(found)))
    if isinstance(error, SyntaxError) and error.filename and _is_theirs(error.filename, ""):
        shown += traceback.format_exception_only(error)[:-1]
    text = "".join(shown).rstrip()
    with suppress(OSError):  # the folder may be gone
        text = text.replace(f'File "{Path.cwd()}{os.sep}', 'File "')
    return text


def showing(error: E, cause: BaseException) -> E:
    """Return the error with the author's frames of its cause, and the whole of it for whoever asks.

    Args:
        error: What is told.
        cause: What was raised.
    """
    error.frames = frames(cause)
    error.whole = "".join(traceback.format_exception(cause))
    return error


def brief(error: BaseException) -> str:
    r"""Return an exception's kind and the first line of what it says; torch may add a page.

    >>> brief(ValueError("too odd\nsee above")), brief(KeyError("x")), brief(AssertionError())
    ('ValueError: too odd', "KeyError: 'x'", 'AssertionError')
    """
    words = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def kind_of(value: object) -> str:
    """Return what a part returned, in words.

    >>> import numpy
    >>> kind_of(None), kind_of([1]), kind_of(numpy.zeros(2))
    ('None', 'a list', 'a ndarray, float64 of shape [2]')
    """
    if value is None:
        return "None"
    word = type(value).__name__
    name = f"{'an' if word[:1].lower() in 'aeio' else 'a'} {word}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return name if dtype is None or shape is None else f"{name}, {dtype} of shape {list(shape)}"


def _is_theirs(file: str, root: str) -> bool:
    if file.startswith((*_OURS, "<frozen ")):
        return False
    # Compiled Cython names its source relative to wherever it was built.
    if any(place in file for place in _INSTALLED) or file.endswith((".pyx", ".pxi", ".pxd")):
        return root in _NAMED
    return not file.startswith(_STDLIB)
