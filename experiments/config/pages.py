"""What the files of ``conf/`` say of themselves: their comments, choices, keys and evidence.

Everything that tells of an option (``--help``, ``list``, ``show``, completion, the site) reads it
here, so that it cannot say something else than what runs. Neither Hydra nor torch is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from experiments.config.folder import CONF, natural

KEY = re.compile(r"^( *)([\w.]+):(?: +([^#\s].*?))?(?: +# *(.*))?$")
CHOICE = re.compile(r"^  - (?:override )?/?([\w/]+): (\w+)(?: +# *(.*))?$")
UNDESCRIBED = ("defaults", "hydra", "_target_", "method.name", "name")
"""Keys that nobody sets by hand."""
WHOLE = ("method", "experiment")
"""The groups whose options set keys of the whole configuration."""
FACTS = ("up", "server", "down", "personal", "measured", "source", "verified")
"""What the head of a method's file says beside what it is, as ``# source: KnFu, ...``.

What goes up, what the server computes, what comes down; whether every client gets a teacher of its
own; kilobytes up and down as measured; where it comes from, and what of that was verified.
"""
LISTED = {
    "probe": ("none", "what models are asked beside the tests: one, or several as [blur,fgsm]")
}
"""Groups of which a run may choose several options, beside those of a run's slots: their default
and what they are about. Such a group stands for a key that holds a list (``probe`` for
``evaluation.probes``)."""
_FACT = re.compile(rf"^# ({'|'.join(FACTS)}): (.*)$")


@dataclass(frozen=True, slots=True)
class Page:
    """What a YAML file says of itself.

    Args:
        about: The comment at its head, in one line.
        target: The class or function that it names; None without one.
        choices: What it chooses of other groups.
        keys: Dotted key, default and meaning of each key.
        sweeps: For an experiment, the key and the values that it sweeps over.
        facts: The facts at its head (:data:`FACTS`); those that it does not give are absent.
    """

    about: str
    target: str | None
    choices: dict[str, str] = field(default_factory=dict)
    keys: list[tuple[str, str, str]] = field(default_factory=list)
    sweeps: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


def read_page(file: Path) -> Page:
    """Read a file of the configuration by its lines, because a YAML parser drops the comments."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    about, facts = _head(lines)
    target, choices, keys, sweeps = None, {}, [], {}
    section: list[tuple[int, str]] = []
    for line in lines:
        if (found := CHOICE.match(line)) and not (section and section[0][1] != "defaults"):
            choices[found[1]] = found[2]
        if not (found := KEY.match(line)) or line.lstrip().startswith(("- ", "#")):
            continue
        indent, name, value, comment = found.groups()
        section = [(depth, word) for depth, word in section if depth < len(indent)]
        dotted = ".".join([*(word for _, word in section), name])
        section.append((len(indent), name))
        if name == "_target_" and not indent:
            target = value
            about = about or comment or ""
        elif name == "name" and not indent and comment:  # engines
            about = about or comment
        elif dotted.startswith("hydra.sweeper.params."):
            sweeps[dotted.removeprefix("hydra.sweeper.params.")] = value
        if dotted.split(".")[0] in UNDESCRIBED or dotted in UNDESCRIBED or name == "_target_":
            continue
        keys.append((dotted, value or "", comment or ""))
    parents = {dotted.rpartition(".")[0] for dotted, _, _ in keys}
    keys = [row for row in keys if row[1] or row[2] or row[0] not in parents]
    keys = [row for row in keys if row[0] != "method"]  # of it there is only its name
    return Page(about, target, choices, keys, sweeps, facts)


def _head(lines: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return the comment at the head of a file without Hydra's directives, and its facts.

    >>> _head(["# @package _global_", "# One,", "# two.", "#", "# source: A,", "#   B", "x: 1"])
    ('One, two.', {'source': 'A, B'})
    """
    said: list[str] = []
    facts: dict[str, str] = {}
    for line in lines:
        if not line.startswith("#"):
            break
        if found := _FACT.match(line):
            facts[found[1]] = found[2]
        elif facts and line.startswith("#   "):
            facts[next(reversed(facts))] += f" {line[1:].strip()}"
        elif not line.startswith("# @"):
            said.append(line.removeprefix("#").strip())
    return " ".join(filter(None, said)), facts


def groups() -> dict[str, tuple[str, str]]:
    """Return every group in the order of a round: its default option and what it is about."""
    lines = (CONF / "config.yaml").read_text(encoding="utf-8").splitlines()
    found = [m for line in lines if (m := CHOICE.match(line)) and "/" not in m[1]]
    return {**{m[1]: (m[2], m[3] or "") for m in found}, **LISTED}


def option_files(group: str, config_dir: Path | None = None) -> dict[str, Path]:
    """Return the options of a group in natural order, and the file of each.

    Args:
        group: The group.
        config_dir: The user's own configuration folder.
    """
    folders = [CONF] if config_dir is None else [CONF, config_dir]
    files = {file.stem: file for folder in folders for file in folder.glob(f"{group}/*.yaml")}
    return {name: files[name] for name in sorted(files, key=natural)}


def options(group: str, config_dir: Path | None = None) -> dict[str, Page]:
    """Return the options of a group in natural order, and what each says of itself."""
    return {name: read_page(file) for name, file in option_files(group, config_dir).items()}


def main_keys() -> list[tuple[str, str, str]]:
    """Return dotted key, default and meaning of every key that belongs to no group."""
    known = groups()
    return [
        row for row in read_page(CONF / "config.yaml").keys if row[0].split(".")[0] not in known
    ]


def homes(option: str, config_dir: Path | None = None) -> list[str]:
    """Return the groups that have an option of this name.

    >>> homes("knfu")
    ['scorer', 'method']
    """
    return [group for group in groups() if option in option_files(group, config_dir)]


def dotted(group: str, key: str) -> str:
    """Return a key of an option's file as the command line has it.

    >>> dotted("scorer", "beta"), dotted("method", "client.batch_size")
    ('scorer.beta', 'client.batch_size')
    """
    return key if group in WHOLE else f"{group}.{key}"
