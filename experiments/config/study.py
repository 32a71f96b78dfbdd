"""Read a study file: the command line of a run or a sweep as YAML (docs/guides/study.md)."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.config.folder import unreadable
from experiments.config.overrides import ALIASES
from experiments.config.pages import groups
from experiments.config.schema import key_type
from experiments.config.texts import loader_of_texts
from experiments.config.words import OPTION, TARGET, assignments, axis, text
from fedfuse.errors import ConfigError, FedfuseError, did_you_mean

SWEEP = "sweep"
"""The key below which every list holds one value for each run."""
LARGEST = 2**20
"""Bytes of a study file that are read."""
DEEPEST = 20
"""Levels of a study; a configuration has some five."""
_NESTED = re.compile(r"[\w@./$:-]+")
_KEY = re.compile(rf"(?:\+{{1,2}}|~)?{_NESTED.pattern}")
_SEVERAL = re.compile(r"\[.*\]|'.*,.*'", re.DOTALL)
_KEYS_ARE = "text such as num_clients, partitioner.alpha or scorer"


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a study file says.

    Args:
        override: As on the command line.
        line: In which line of the file, from 1.
        swept: Whether its values are one for each run.
    """

    override: str
    line: int
    swept: bool = False

    @property
    def key(self) -> str:
        """The dotted key, without marks and aliases."""
        return plain_key(self.override)


def plain_key(override: str) -> str:
    """Return the key of an override, without marks and aliases.

    >>> plain_key("++scorer.beta=3"), plain_key("name=mine")
    ('scorer.beta', 'method.name')
    """
    key = override.partition("=")[0].lstrip("+~")
    return ALIASES.get(key, key)


def read_study(file: Path) -> list[Said]:
    """Return what a study file says, in its order.

    Raises:
        ConfigError: If it cannot be read as one, with the line.
    """
    node, tree = _load(file, _text(file))
    if not isinstance(node, yaml.MappingNode):
        kind = {yaml.SequenceNode: "a list"}.get(type(node), f"the text {tree!r:.60}")
        raise ConfigError(
            f"'{file}' is no study",
            got=kind,
            allowed="lines of KEY: VALUE",
            next_step="See docs/guides/study.md.",
        )
    _refuse_saved(file, tree)
    lines, said = _lines(file, node), []
    for key, value in tree.items():
        try:
            for override, swept in _overrides(str(key), value):
                name = plain_key(override)
                line = lines.get(name, lines.get(name.rpartition(".")[0], 0))
                said.append(_checked(file, Said(override, line, swept)))
        except ConfigError as error:
            raise located(error, file, lines[plain_key(str(key))]) from None
    return said


def located(error: FedfuseError, file: Path, line: int) -> FedfuseError:
    """Return an error that now says where in a study its cause stands, if it does not yet."""
    where = f"{file}, line {line}: "
    error.what = error.what if error.what.startswith(f"{file}, line ") else where + error.what
    return error


def _text(file: Path) -> str:
    """Return a file's text, or say what is in the way."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ConfigError(
                f"'{file}' is too large for a study", allowed=f"at most {LARGEST} bytes"
            )
        content = data.decode("utf-8-sig")
    except FileNotFoundError:
        beside = sorted(p.name for p in file.parent.glob("*.y*ml")) if file.parent.is_dir() else []
        near = did_you_mean(file.name, beside)
        raise ConfigError(
            "--config-file names no file",
            got=str(file),
            next_step=f"Did you mean '{file.with_name(near)}'?" if near else None,
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            "--config-file names a folder",
            got=str(file),
            next_step="Name the YAML file itself; a folder of options is --config-dir's.",
        ) from None
    except UnicodeDecodeError as error:
        raise unreadable(file, error, "A study is text in UTF-8.") from error
    except OSError as error:
        raise ConfigError(
            f"'{file}' cannot be read: {error.strerror}.", next_step="Name another file."
        ) from error
    return content


def _load(file: Path, content: str) -> tuple[yaml.Node, Any]:
    """Return the file's node, which knows its lines, and its values."""
    kind = loader_of_texts()
    try:
        _refuse_references(file, content)
        loader = kind(io.StringIO(content))
        node = loader.get_single_node()
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
            raise _empty(file)
        if isinstance(node, yaml.MappingNode):
            _lines(file, node)  # refuses what is given twice, in better words than the loader
        return node, loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        tab = "'\\t'" in str(getattr(error, "problem", ""))
        step = "YAML takes spaces, no tabs." if tab else "Mend it; lines are KEY: VALUE."
        raise unreadable(file, error, step) from error


def _refuse_references(file: Path, content: str) -> None:
    """Refuse what has no counterpart on a command line."""
    documents = depth = 0
    for event in yaml.parse(content, yaml.SafeLoader):
        line = event.start_mark.line + 1
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _wrong(file, line, "it is nested too deeply for a study", "Take levels out.")
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise _wrong(file, line, "a second document begins", "Keep one study in a file.")
        if getattr(event, "anchor", None) is not None:
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            what = f"anchors and aliases are not read: {mark}{event.anchor}"
            raise _wrong(file, line, what, "Write the value where it is used.")
        if getattr(event, "tag", None) is not None:
            raise _wrong(file, line, f"tags are not read: {event.tag}", "Write the plain value.")


def _lines(file: Path, node: yaml.MappingNode) -> dict[str, int]:
    """Return the line of every dotted key; refuse a value that is given twice."""
    lines: dict[str, int] = {}
    given: dict[str, int] = {}
    for key, line, value in _keys(file, node, ""):
        lines.setdefault(key, line)
        if value and given.setdefault(key, line) != line:
            raise _twice(file, line, key, given[key])
    return lines


def _keys(file: Path, node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int, bool]]:
    """Yield every dotted key, its line, and whether it has a value of its own."""
    here: dict[str, int] = {}
    for key, value in node.value:
        line, word = key.start_mark.line + 1, key.value
        scalar = isinstance(key, yaml.ScalarNode) and key.tag.rsplit(":", 1)[-1] in ("str", "int")
        if not scalar or not (_NESTED if prefix else _KEY).fullmatch(word):
            shown = word if isinstance(word, str) else "a list or a mapping"
            raise _wrong(file, line, f"'{shown}' is no key", f"Keys are {_KEYS_ARE}.")
        if word in here:
            raise _twice(file, line, word, here[word])
        here[word] = line
        sweep = not prefix and word == SWEEP
        full = SWEEP if sweep else plain_key(prefix + word).removesuffix(f".{OPTION}")
        inner = isinstance(value, yaml.MappingNode) and bool(value.value)
        yield full, line, not inner
        if inner:
            yield from _keys(file, value, "" if sweep else f"{full}.")


def _refuse_saved(file: Path, tree: dict[str, Any]) -> None:
    """Refuse what a run wrote down, and say which command the run was."""
    method, dealt = tree.get("method"), tree.get("partitioner")
    if not (isinstance(method, dict) and set(method) == {"name"} and "seed" in tree):
        return
    if not (isinstance(dealt, dict) and TARGET in dealt and OPTION not in dealt):
        return
    step = "Keep in a file what you would type."
    try:
        words = json.loads((file.parent / "run.json").read_text(encoding="utf-8"))["overrides"]
        command = shlex.join(["fedfuse", *map(str, words)])
        step = f"The run's command was: {command} (go on with it: resume={file.parent})"
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise ConfigError(
        f"'{file}' is the whole configuration of one run, as it was built, and no study",
        next_step=step,
    )


def _overrides(key: str, value: Any) -> Iterator[tuple[str, bool]]:
    """Yield the overrides of a key of the file, and whether each is an axis."""
    if plain_key(key) == "resume":
        raise ConfigError("resume goes on with what was begun, and a study begins anew.")
    if key == SWEEP:
        if not isinstance(value, dict) or not value:
            raise ConfigError(
                f"{SWEEP} names nothing to sweep over",
                allowed="keys, each with a list of values",
                next_step=f"Write {SWEEP}: {{seed: [0, 1]}}.",
            )
        for name, inner in value.items():
            yield from ((override, True) for override in _axes(str(name), inner))
    elif key.startswith("~") and value is None:
        yield key, False
    else:
        yield from ((override, False) for override in assignments(key, value))


def _axes(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _axes(key if name == OPTION else f"{key}.{name}", inner)
    elif isinstance(value, list):
        yield axis(key, value)
    else:
        raise ConfigError(
            f"{key} below {SWEEP} has no list",
            got=text(value),
            allowed="a list with one value for each run",
            next_step=f"Write {key}: [...], or take it out of {SWEEP} if it has one value.",
        )


def _checked(file: Path, said: Said) -> Said:
    """Refuse several values of a key that takes one, where they were meant to be swept."""
    value = said.override.partition("=")[2]
    single = said.key in groups() or key_type(said.key) in (int, float, bool)
    if single and not said.swept and _SEVERAL.fullmatch(value):
        raise _wrong(
            file,
            said.line,
            f"{said.key} takes one value, got {value}",
            f"For a run with each write it below {SWEEP}:, as a list.",
        )
    return said


def _twice(file: Path, line: int, key: str, first: int) -> ConfigError:
    return _wrong(file, line, f"'{key}' is given twice, first in line {first}", "Keep one.")


def _wrong(file: Path, line: int, what: str, next_step: str) -> ConfigError:
    return ConfigError(f"{file}, line {line}: {what}.", next_step=next_step)


def _empty(file: Path) -> ConfigError:
    return ConfigError(
        f"'{file}' says nothing",
        allowed="lines of KEY: VALUE",
        next_step="Plain 'fedfuse' runs the defaults.",
    )
