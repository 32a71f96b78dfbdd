"""What a configuration may ask for when it was written by somebody else.

A configuration that is composed from the user's own command line and config folders may name any
``_target_`` and any address: the user wrote it. One that is read back from a run folder may come
from anybody. It is plain data here; of its targets only those count that fedfuse ships, and what
reaches beyond the run's folder (a cluster, a tracking server, a data set of the hub) counts only if
the user names it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from experiments.config.damaged import RESTORE
from experiments.config.folder import CONF
from experiments.config.former_names import as_today
from experiments.config.process_objects import is_process_object, named_again
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files import confined

LARGEST, DEEPEST, MOST, LONGEST = 2**20, 30, 100_000, 10_000
"""Bytes, levels, values and characters of a value; fedfuse's own has some 3,000, 4, 150 and 60."""

HUB = "fedfuse.data.sources.hub.hub"
PROGRAM = "fedfuse.models.saved.saved_module"
TENSORBOARD = "server.reporters.tensorboard.TensorBoard"
MANY = "server.reporters.many.Many"


@lru_cache(maxsize=1)
def _shipped() -> tuple[dict[str, set[str]], set[str]]:
    """Return the targets of fedfuse's own options, by group, and their data sets of the hub."""
    found: dict[str, set[str]] = {}
    named = set()
    for file in CONF.glob("*/*.yaml"):
        node = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        own = {target for _, target in targets(node)} - {"???"}
        found.setdefault(file.parent.name, set()).update(own)
        if node.get("_target_") == HUB and node["name"]:
            named.add(node["name"])
    found["student"] |= found["model"]
    found["probes"] = found["probe"]
    return found, named


def shipped_targets(where: str | None = None) -> set[str]:
    """Return the targets that fedfuse's own options name.

    Args:
        where: A dotted key: then only those of the groups that it leads through, so that no part
            comes to where it would do something else than it is for. None for all of them.

    >>> "fedfuse.models.mlp.mlp" in shipped_targets("exchange.model")
    True
    >>> "fedfuse.models.mlp.mlp" in shipped_targets("partitioner")
    False
    """
    groups = _shipped()[0]
    words = groups if where is None else where.split(".")
    return {target for word in words for target in groups.get(word, ())}


def targets(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the target of every part in a configuration.

    >>> list(targets({"rule": {"_target_": "m.f", "inner": [{"_target_": "m.g"}]}}))
    [('rule', 'm.f'), ('rule.inner.0', 'm.g')]
    """
    for key, part in parts(node, where):
        yield key, str(part["_target_"])


def parts(node: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dotted key and the keys of every part that has a target."""
    if isinstance(node, Mapping):
        if node.get("_target_") is not None:
            yield where, node
        for key, value in node.items():
            yield from parts(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from parts(value, f"{where}.{number}")


def check_targets(
    config: Mapping[str, Any],
    source: object,
    own: Iterable[str] = (),
    how: str = "{where}._target_={target} to your command",
) -> None:
    """Refuse a configuration of a stranger that names code of its own.

    Args:
        config: The configuration, as plain values.
        source: Where it came from, for messages.
        own: Targets that the user names on the command line.
        how: What a user adds to name one.

    Raises:
        ConfigError: For the first target that neither fedfuse ships there nor the user names.
    """
    for where, target in targets(config):
        if target not in shipped_targets(where) | set(own):
            if is_process_object(target):
                raise ConfigError(
                    f"{source} names an object of the Python process that began it",
                    got=f"{where}._target_={target}",
                    next_step=named_again(where, target),
                )
            raise ConfigError(
                f"{source} names code that fedfuse does not ship for it, which is not run unasked",
                got=f"{where}._target_={target}",
                next_step=f"If you trust it, add {how.format(where=where, target=target)}.",
            )


def own_code(folder: Path) -> list[str]:
    """Return how the user's own code in a run folder, or in those of a sweep, is named again."""
    found: dict[str, None] = {}
    for file in [folder / "config.yaml", *sorted(folder.glob("*/config.yaml"))]:
        with suppress(FedfuseError):  # whoever resumes it is told what is wrong with it
            for where, target in targets(read_config(file.parent, file.name)):
                if target not in shipped_targets() and not is_process_object(target):
                    found[f"{where}._target_={target}"] = None
    return list(found)


def check_reach(config: Mapping[str, Any], source: object, own: Collection[str] = ()) -> None:
    """Refuse a configuration of a stranger that leaves this machine or writes elsewhere.

    Args:
        config: The configuration, as plain values.
        source: Where it came from, for messages.
        own: Dotted keys that the user gave on the command line, whose values are therefore theirs.

    Raises:
        ConfigError: For the first place that the user does not name: a Ray cluster, credentials,
            a reporter that writes outside of the run folder, a data set of the hub that none of
            fedfuse's own options names, a module saved with its code.
    """
    what = f"{source} reaches beyond the run's folder, which is not done unasked"
    engine = config.get("engine")
    for key in ("address", "credentials"):
        value = engine.get(key) if isinstance(engine, Mapping) else None
        if value is not None and f"engine.{key}" not in own:
            raise ConfigError(
                what,
                got=f"engine.{key}={value}",
                next_step=f"If you trust it, add engine.{key}={value} to your command; "
                "engine=serial goes on in this process.",
            )
    if not any(key.split(".")[0] == "reporter" for key in own):
        for where, part in parts(config.get("reporter"), "reporter"):
            if part["_target_"] != MANY and not _within(part):
                told = {key: value for key, value in part.items() if value is not None}
                raise ConfigError(
                    what,
                    got=", ".join(f"{where}.{key}={value}" for key, value in told.items()),
                    next_step="Add reporter=none to your command to go on without it, or name the "
                    "reporter again, such as reporter=mlflow reporter.tracking_uri=...",
                )
    for where, part in parts(config):
        if part["_target_"] == PROGRAM and f"{where}.path" not in own:
            raise ConfigError(
                f"{source} names a program in a file, which is not run unasked",
                got=f"{where}.path={part.get('path')}",
                next_step=f"If you trust it, add {where}.path={part.get('path')} to your command.",
            )
        name = part.get("name")
        remote = part["_target_"] == HUB and part.get("path") is None
        if remote and name not in _shipped()[1] and f"{where}.name" not in own:
            raise ConfigError(
                what,
                got=f"{where}.name={name}, of the Hugging Face hub",
                next_step=f"If you trust it, add {where}.name={name} to your command.",
            )


def _within(reporter: Mapping[str, Any]) -> bool:
    """Tell whether a reporter writes into the run's own folder only."""
    return reporter["_target_"] == TENSORBOARD and reporter.get("log_dir") is None


def _check_events(text: str) -> None:
    """Refuse what takes long or becomes large, and all but plain YAML, before anything is built."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"the alias *{event.anchor}")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"the tag {event.tag}")
        if isinstance(event, yaml.ScalarEvent):
            values += 1
            if len(event.value) > LONGEST:
                raise ValueError(f"a value of more than {LONGEST} characters")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.CollectionStartEvent)
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
        if values > MOST:
            raise ValueError(f"more than {MOST} values")


# The parser that is written in C, where there is one: the other one is quadratic in depth.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_plain(node: Any) -> None:
    """Refuse values that a run's configuration never has, or that something would fill in later.

    This looks at what the parser made of the text: an escape hides a ``${`` from a look at the
    text itself.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            _check_plain(key)
            _check_plain(value)
    elif isinstance(node, list):
        for value in node:
            _check_plain(value)
    elif isinstance(node, str):
        if "${" in node:
            raise ValueError(f"{node[:100]}, to be filled in")
    elif isinstance(node, int):
        if abs(node) >= 2**64:
            raise ValueError("an integer of more than 64 bits")
    elif node is not None and not isinstance(node, float):
        raise ValueError(f"a {type(node).__name__}")


def read_config(folder: Path, *names: str) -> dict[str, Any]:
    """Return a configuration that somebody wrote, as plain values; nothing in it is run.

    Every reader of a run folder takes it from here.

    Args:
        folder: The folder of a run or a sweep.
        names: The file in it, with the folders that lead there; ``config.yaml`` if none is given.

    Raises:
        ConfigError: If the file is missing, too large, no mapping, refers to itself (anchors can
            make a page of text expand to gigabytes) or asks for values from elsewhere (a ``${...}``
            may read the environment, or build an object).
        FedfuseError: If a link leads to it.
    """
    try:
        names = names or ("config.yaml",)
        text = confined.read(folder, *names, most=LARGEST).decode("utf-8")
        _check_events(text)
        config = yaml.load(text, _LOADER)  # noqa: S506 - a safe loader
        if not isinstance(config, dict):
            raise ValueError(f"a {type(config).__name__} where keys should be")
        _check_plain(config)
    # A parser's recursion ends in RecursionError, a lone surrogate in UnicodeError (a ValueError),
    # and what looks like a number and is none in one of the others.
    except (OSError, *MALFORMED, yaml.YAMLError) as error:
        words = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"The configuration {folder.joinpath(*names)} cannot be read",
            got=words or type(error).__name__,
            allowed="plain YAML as fedfuse writes it",
            next_step=RESTORE,
        ) from error
    return as_today(config)


MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What taking apart something else than was expected raises."""
