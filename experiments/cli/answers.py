"""What may come next on a command line, from the files of the configuration and the help texts.

Neither Hydra nor torch is imported, and no module of the user's: somebody waits for each answer.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from experiments.cli import usage
from experiments.cli.commands import COMMANDS
from experiments.cli.shells import SCRIPTS
from experiments.cli.source import functions
from experiments.config.folder import PATH
from experiments.config.pages import Page, dotted, groups, main_keys, options
from experiments.config.schema import ExperimentConfig
from experiments.runs.config_file import first_word

Answer = tuple[str, str]
"""What may stand there, and what it means."""

HELP = {
    "fedfuse-report": "experiments.report.command",
    "fedfuse-map": "experiments.map.command",
    "fedfuse-advise": "experiments.advise.command",
    **COMMANDS,
}
"""The module with the text ``USAGE`` of each program and subcommand; fedfuse's own is made."""
FLAG = re.compile(r"^  (?:(-\w), )?(--[\w-]+)(?: ([\w|]+))?  +(.*)$", re.MULTILINE)
CHOICES = {
    "--format": ("html", "png", "svg", "pdf", "csv", "latex"),
    "--cfg": ("job", "hydra", "all"),
}
"""Options of programs that take one of a few words."""
_ALTERNATIVES = re.compile(r"(?:^|; )or (\w+(?:, \w+)*)(?=$|[,;:.]| \()")
_ALL_OF_THEM = re.compile(r"^\w+(?:(?:, | or | \| )\w+)+")


def answers(program: str, before: Sequence[str], current: str) -> list[Answer]:
    """Return what the word that is being written may become.

    Args:
        program: ``fedfuse`` or one of its kin.
        before: The words between the program and that word.
        current: What of it is there.
    """
    at = first_word(before) if program == "fedfuse" else None
    command = before[at] if at is not None and before[at] in COMMANDS else program
    flags = _flags(command)
    last = before[-1] if before else ""
    if (metavar := flags.get(last, ("", ""))[0]) and last != "--help":
        return _starting(_value_of(command, last, metavar, current), current)
    if current.startswith("-"):
        return _starting(((flag, told) for flag, (_, told) in flags.items()), current)
    if "=" in current:
        return list(_values(before, current))
    return _starting(_words(command, before, current), current)


def _starting(found: Iterable[Answer], start: str) -> list[Answer]:
    return [answer for answer in found if answer[0].startswith(start)]


def _help(command: str) -> str:
    """Return the help text of a program or a subcommand."""
    if command == "fedfuse":
        return usage.TAIL
    return str(importlib.import_module(HELP[command]).USAGE)


def _flags(command: str) -> dict[str, tuple[str, str]]:
    """Return the options of a program: the name of its value ('' without one) and its meaning."""
    found = {}
    for short, flag, metavar, told in FLAG.findall(_help(command)):
        for name in filter(None, (short, flag)):
            found[name] = (metavar, told)
    return found


def _value_of(command: str, flag: str, metavar: str, current: str) -> Iterator[Answer]:
    """Yield what an option of a program may be given."""
    if flag in CHOICES:
        yield from ((word, "") for word in CHOICES[flag])
    elif flag == "--figure":
        named = re.search(r"Names are\s+([\w,\s]+?)\n  --", _help(command))
        yield from ((word, "") for word in re.findall(r"\w+", named[1] if named else ""))
    elif metavar in ("DIR", "FILE", "PATH"):
        yield from _files(current, folders=metavar == "DIR")


def _words(command: str, before: Sequence[str], current: str) -> Iterator[Answer]:
    """Yield the words that may stand where no option is begun and no key is."""
    first = first_word(before) is None
    if command == "list":
        if not set(before) & set(groups()):
            yield from ((name, told) for name, (_, told) in groups().items())
        return
    if command == "completion":
        yield from ((shell, "") for shell in SCRIPTS)
        return
    if command == "fedfuse-report":
        yield from _files(current, folders=True)
        return
    if command == "fedfuse" and first and "--help" not in before:
        yield from ((name, _title(name)) for name in COMMANDS)
        yield "resume=", "go on with a run or a sweep that was broken off"
    if command == "fedfuse-advise" and first:
        for name, told in re.findall(r"^  fedfuse-advise (\w+) .*?  +(.*)$", _help(command), re.M):
            if name.islower():
                yield name, told
        yield from _files(current, folders=True)
    if command in ("fedfuse-map", "tune"):
        for key, told in re.findall(r"^  ((?:map\.)?[a-z]+=)\S*  +(.*)$", _help(command), re.M):
            yield key, told
    yield from _keys(before, current)


def _title(command: str) -> str:
    """Return the first line of a subcommand's help without its name."""
    return _help(command).split("\n", 1)[0].split(": ", 1)[1].rstrip(".")


def _keys(before: Sequence[str], current: str) -> Iterator[Answer]:
    """Yield groups and keys; those of a group or a section once its dot is written."""
    known = groups()
    own = {key: told for key, _, told in _part_keys(before)}
    rest = {key: told for key, _, told in main_keys()}
    if "." in current:
        yield from ((f"{key}=", told) for key, told in {**own, **rest}.items())
        return
    yield from ((f"{name}=", told) for name, (_, told) in known.items())
    sections = dict.fromkeys(key.split(".")[0] for key in {**own, **rest} if "." in key)
    yield from ((f"{name}.", f"keys of {name}") for name in sections)
    yield from ((f"{key}=", told) for key, told in rest.items() if "." not in key)
    yield "name=", "what tables and folders call the run"


def _chosen(before: Sequence[str], config_dir: Path | None) -> dict[str, tuple[str, Page]]:
    """Return the option of each group that the words come to, and its page."""
    known = groups()
    given = dict(word.split("=", 1) for word in before if "=" in word)
    chosen = {group: default for group, (default, _) in known.items()}
    for whole in ("method", "experiment"):
        page = options(whole, config_dir).get(given.get(whole, chosen[whole]))
        chosen |= page.choices if page else {}
    chosen |= {group: "custom" for group in known if f"{group}._target_" in given}
    chosen |= {group: name for group, name in given.items() if group in known}
    found = {}
    for group, name in chosen.items():
        # Of a sweep the first: its keys are the best guess.
        name = name.split(",")[0]
        if group in known and (page := options(group, config_dir).get(name)):
            found[group] = (name, page)
    return found


def _part_keys(before: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield key, default and meaning of the parameters of the chosen options."""
    for group, (_, page) in _chosen(before, _config_dir(before)).items():
        if group in ("method", "experiment"):
            continue
        yield from ((dotted(group, key), value, told) for key, value, told in page.keys)
        if page.target is not None:
            yield f"{group}._target_", page.target, "a class or function of your own"


def _config_dir(before: Sequence[str]) -> Path | None:
    """Return the user's own configuration folder, if the words name one."""
    for word, following in zip(before, [*before[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            return Path(value if equals else following).expanduser()
    return None


def _values(before: Sequence[str], current: str) -> Iterator[Answer]:
    """Yield ``key=value`` for what follows a ``=``; of a list the value after the last comma."""
    key, _, value = current.partition("=")
    key = key.lstrip("+")
    done = value[: max(value.rfind(","), value.rfind("[")) + 1]
    start = value[len(done) :]
    ahead = current[: len(current) - len(start)]
    for found, told in _starting(_of_key(key, before, start), start):
        yield f"{ahead}{found}", told


def _of_key(key: str, before: Sequence[str], start: str) -> Iterator[Answer]:
    known = groups()
    if key in known:
        pages = options(key, _config_dir(before))
        yield from ((name, page.about) for name, page in pages.items())
    elif key in ("resume", "--config-dir", "hydra.run.dir", "hydra.sweep.dir", "map.dir"):
        yield from _files(start, folders=True)
    elif key == "search":
        yield from (("random", ""), ("halving", ""))
    elif key == "map.methods":
        yield from ((name, page.about) for name, page in options("method").items())
    elif key.endswith("._target_"):
        yield from _targets(start)
    elif PATH.fullmatch(key.rpartition(".")[2]):
        yield from _files(start)
    else:
        rows = {name: (value, told) for name, value, told in [*main_keys(), *_part_keys(before)]}
        default, told = rows.get(key, ("", ""))
        words = _allowed(key) or alternatives(default, told)
        yield from ((word, "the default" if word == default else "") for word in words)


def _allowed(key: str) -> list[str]:
    """Return the words that a key outside of groups may be set to; empty if it takes others."""
    owner: Any = ExperimentConfig
    name = key
    while "." in name and is_dataclass(owner):
        head, _, name = name.partition(".")
        owner = get_type_hints(owner).get(head)
    entry = (
        next((f for f in fields(owner) if f.name == name), None) if is_dataclass(owner) else None
    )
    if entry is None:
        return []
    if get_type_hints(owner)[name] is bool:
        return ["true", "false"]
    if get_type_hints(owner)[name] is not str:
        return []
    words = re.split(r", | or ", str(entry.metadata.get("allowed", "")))
    return [word for word in words if word.isidentifier() and entry.metadata["ok"](word)]


def alternatives(default: str, told: str) -> list[str]:
    """Return the words that a parameter may be set to, as its comment lists them.

    >>> alternatives("kl", "or js, l1"), alternatives("group", "group, batch or none")
    (['kl', 'js', 'l1'], ['group', 'batch', 'none'])
    >>> alternatives("power", "accuracy ** beta; or exponential, exp(beta * accuracy)")
    ['power', 'exponential']
    >>> alternatives("false", "send it"), alternatives("0.5", "of the clients, or none")
    (['true', 'false'], [])
    """
    if default in ("true", "false"):
        return ["true", "false"]
    if not default.isidentifier() or default == "null":
        return []
    if (every := _ALL_OF_THEM.match(told)) and default in (words := re.findall(r"\w+", every[0])):
        return [word for word in words if word != "or"]
    if found := _ALTERNATIVES.search(told):
        return [default, *found[1].split(", ")]
    return []


def _targets(start: str) -> Iterator[Answer]:
    """Yield modules where the user is, and the functions of the one that is written."""
    module, dot, _ = start.rpartition(".")
    if not dot:
        for file in sorted(Path().glob("*.py")):
            if file.stem.isidentifier():
                yield f"{file.stem}.", str(file)
    else:
        yield from ((f"{module}.{name}", "") for name in functions(Path(f"{module}.py")))


def _files(start: str, *, folders: bool = False) -> Iterator[Answer]:
    """Yield what of the file system begins with ``start``, a folder with its slash."""
    head, _, name = start.rpartition("/")
    place = Path(f"{head}/").expanduser() if "/" in start else Path()
    ahead = f"{head}/" if "/" in start else ""
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") and not name.startswith("."):
            continue
        if entry.is_dir():
            yield f"{ahead}{entry.name}/", ""
        elif not folders and entry.name.isprintable():
            yield f"{ahead}{entry.name}", ""
