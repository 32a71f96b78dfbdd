"""Build the part that a config node names.

``_target_`` is a dotted path to a class or a function. It comes from the user's own command line
and config folders only, never from data or from another machine, so importing it is running the
user's own code.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.config.former_names import today
from experiments.config.hints import unknown_parameter
from experiments.config.plain import complete
from fedfuse.errors import ConfigError, FedfuseError, did_you_mean
from fedfuse.user_code import brief, frames, kind_of, note_module, showing


def instantiate(node: Any, where: str) -> Any:
    """Build what ``node`` describes, nested parts first.

    A class becomes an instance; a function, a ``torch.nn.Module`` and a ``torch.optim.Optimizer``
    become ``functools.partial`` objects, because their first arguments (labels, shapes,
    parameters) are known only later. ``_target_: null`` is None. A mapping without ``_target_``
    stays a dict, a sequence a list.

    Args:
        node: A config node, or plain dicts and lists.
        where: The node's dotted key, for messages.

    Raises:
        ConfigError: If the target cannot be imported or does not take these parameters.
        FedfuseError: Whatever the part itself says about its parameters.

    >>> instantiate({"_target_": "datetime.timedelta", "hours": 2}, "delay").seconds
    7200
    """
    return _build(complete(node, where), where)


def _build(node: Any, where: str) -> Any:
    if isinstance(node, list):
        return [_build(item, f"{where}[{i}]") for i, item in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    parameters = {
        str(key): _build(value, f"{where}.{key}")
        for key, value in node.items()
        if key != "_target_"
    }
    if "_target_" not in node:
        return parameters
    if node["_target_"] is None:
        return None
    target = locate(node["_target_"], where)
    return _bind(target, parameters, where)


def _bind(target: Callable[..., Any], parameters: dict[str, Any], where: str) -> Any:
    complete = inspect.isclass(target) and not _needs_more(target)
    _check_signature(target, parameters, where, complete=complete)
    if not complete:
        return functools.partial(target, **parameters)
    try:
        return target(**parameters)
    except FedfuseError:
        raise
    except Exception as error:
        simple = isinstance(error, TypeError | ValueError)
        if not simple and not frames(error):
            raise
        name, why = getattr(target, "__name__", repr(target)), str(error) if simple else ""
        told = ConfigError(f"{where}: {name} refused its parameters: {why or brief(error)}")
        # A ValueError is the author's way to refuse a value, and says what there is to say.
        raise (told if isinstance(error, ValueError) else showing(told, error)) from error


def _needs_more(target: type) -> bool:
    """Tell whether a class is a factory: a model or an optimiser (without importing torch)."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(target, torch.nn.Module | torch.optim.Optimizer)


def _check_signature(
    target: Callable[..., Any], parameters: Mapping[str, Any], where: str, *, complete: bool
) -> None:
    try:
        known = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some C functions have none; calling them will tell
        return
    by_name = {p.name: p for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in known):
        for name in parameters:
            if name not in by_name:
                raise unknown_parameter(where, name, by_name)
    missing = [
        name for name, p in by_name.items() if p.default is p.empty and name not in parameters
    ]
    if complete and missing:
        raise ConfigError(
            f"{where} needs a value for '{missing[0]}'.",
            next_step=f"Add {where}.{missing[0]}=... to the command.",
        )


def locate(path: object, where: str) -> Callable[..., Any]:
    """Import the class or function at the dotted ``path``.

    Raises:
        ConfigError: If there is no such module or member, or it cannot be called.
    """
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise ConfigError(
            f"{where}._target_ is not valid",
            got=repr(path),
            allowed="a dotted path such as my_module.my_function",
        )
    module, members = _import_longest(today(path).split("."), where)
    found: Any = module
    for name in members:
        if not hasattr(found, name):
            names = [word for word in dir(found) if not word.startswith("_")]
            place = getattr(found, "__file__", None)
            raise ConfigError(
                f"{where}._target_: {getattr(found, '__name__', found)} has no '{name}'"
                f"{f' (looked in {place})' if place else ''}.",
                next_step=_nearest(name, names),
            )
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(
            f"{where}._target_ must name a class or a function, got '{path}', {kind_of(found)}."
        )
    return found  # type: ignore[no-any-return]


def _import_longest(parts: list[str], where: str) -> tuple[Any, list[str]]:
    """Import as much of a dotted path as is modules; return the module and the rest."""
    module: Any = None
    for i in range(len(parts)):
        name = ".".join(parts[: i + 1])
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise ConfigError(
                    f"{where}._target_: importing '{name}' failed: {error}.",
                    next_step="Install what is missing, or mend the import.",
                ) from error
            if module is None:
                raise ConfigError(
                    f"{where}._target_: there is no module '{name}'.",
                    next_step=_nearest(name, _modules(None))
                    or "Put its file into the current folder, or install its package.",
                ) from error
            if not hasattr(module, parts[i]) and hasattr(module, "__path__"):
                names = {*_modules(module.__path__), *(w for w in dir(module) if w[0] != "_")}
                raise ConfigError(
                    f"{where}._target_: package '{module.__name__}' has no '{parts[i]}'.",
                    next_step=_nearest(parts[i], names),
                ) from error
            return module, parts[i:]
        except Exception as error:
            told = ConfigError(f"{where}._target_: importing '{name}' raised {brief(error)}")
            raise showing(told, error) from error
        note_module(name)
    return module, []


def _modules(path: Any) -> list[str]:
    """Return the modules of a package, or those a user is likely to mean: their own and ours."""
    if path is not None:
        return [info.name for info in pkgutil.iter_modules(path)]
    likely = ("fedfuse", "torch", "torchvision")
    there = [name for name in likely if importlib.util.find_spec(name) is not None]
    return [*(file.stem for file in Path.cwd().glob("*.py")), *there]


def _nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the did-you-mean sentence alone, for lists too long to print."""
    nearest = did_you_mean(word, names)
    return f"Did you mean '{nearest}'?" if nearest else None
