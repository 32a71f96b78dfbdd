"""What messages advise exists: every key, option, command, file and name in a hint."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import pytest
import yaml

from experiments.cli.usage import usage
from experiments.config.folder import CONF
from experiments.config.schema import ExperimentConfig
from experiments.map.grid import Axes

HOME = Path(__file__).parents[3]
PACKAGES = ("fedfuse", "clients", "server", "experiments")
OF_COMMANDS = {"resume", "name", "experiment", "hydra", "trials", "workers"}
"""Words before a dot or an equals sign that commands read themselves."""
OTHERS = {
    "class", "mask", "rel", "x", "y", "path", "x_train", "y_train", "axis", "reduction",
    "decimal", "thousands", "encoding", "index", "inplace",
}  # fmt: skip
"""Words before an equals sign that are Python's."""


@lru_cache(maxsize=1)
def known() -> tuple[dict[str, set[str]], set[str]]:
    """Return the options of each group, and every dotted key of any option."""
    options: dict[str, set[str]] = {}
    keys = {field.name for field in fields(ExperimentConfig)} | set(OF_COMMANDS)
    keys |= {f"map.{field.name}" for field in fields(Axes)}
    for file in CONF.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text("utf-8")) or {}
        inside = file.relative_to(CONF).parent.as_posix()
        if inside != ".":
            options.setdefault(inside, set()).add(file.stem)
        _add(content, "" if inside in (".", "method", "experiment") else f"{inside}.", keys)
    return options, keys


def _add(node: object, before: str, keys: set[str]) -> None:
    if isinstance(node, dict):
        for name, value in node.items():
            keys.add(f"{before}{name}")
            _add(value, f"{before}{name}.", keys)


@lru_cache(maxsize=1)
def hints() -> list[tuple[str, str]]:
    """Return all hints; not as the file is read, which every choice of tests would pay for."""
    return list(_hints())


def _hints() -> Iterator[tuple[str, str]]:
    """Yield where a hint stands and its text, with ``{}`` for what is filled in."""
    for package in PACKAGES:
        for file in sorted((HOME / package).rglob("*.py")):
            if "benchmarks" in file.parts:
                continue
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "next_step":
                    for text in _texts(node.value):
                        yield f"{file.relative_to(HOME)}:{node.value.lineno}", text


def _texts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(t.value if isinstance(t, ast.Constant) else "{}" for t in node.values)]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in _texts(value)]
    if isinstance(node, ast.BinOp):
        one, two = _texts(node.left), _texts(node.right)
        return [a + b for a in one for b in two] if one and two else one or two
    return []


def test_there_are_hints_and_known_words():
    options, keys = known()
    assert len(hints()) > 150
    assert {"custom", "dirichlet"} <= options["partitioner"]
    assert {"client.batch_size", "dataset.path", "scorer.beta", "map.samples"} <= keys


def test_what_a_hint_names_exists():
    found = [
        f"{where}: {problem} in: {text}" for where, text in hints() for problem in problems(text)
    ]
    assert not found, "\n".join(found)


def problems(text: str) -> Iterator[str]:
    """Yield what does not exist of what a hint names."""
    options, keys = known()
    tops = {key.partition(".")[0] for key in keys}
    for key, value in re.findall(r"(?<![\w.{}/'-])([a-z_]+(?:\.[a-z_]+)*)=([\w{}]*)", text):
        if key in OTHERS or key.startswith("hydra."):
            continue
        if key not in keys and not key.endswith("._target_"):
            yield f"no key '{key}'"
        plain = re.fullmatch(r"[a-z]\w*", value)
        if key in options and plain and value not in options[key]:
            yield f"no option '{key}={value}'"
    for key in re.findall(
        r"(?<![\w.{}/'*=-])([a-z]+\.[a-z_]+(?:\.[a-z_]+)*)(?!\w|[(=/]|\.\w)", text
    ):
        if key.partition(".")[0] in tops - OF_COMMANDS and key not in keys:
            yield f"no key '{key}'"
    tails = {key.rpartition(".")[2] for key in keys if "." in key} - tops
    names = {option for group in options.values() for option in group}
    for word in re.findall(r"(?<![\w.{}/'*-])([a-z]+_[a-z_]+)(?!\w|[(=]|\.\w)", text):
        if word in tails - names:
            yield f"'{word}' without its group"
    for name in re.findall(r"(?:fedfuse|clients|server)\.[\w.]*\w", text):
        module, _, member = name.rpartition(".")
        if not hasattr(importlib.import_module(module), member):
            yield f"no '{name}'"
    for name in re.findall(r"docs/\w+\.md", text):
        if not (HOME / name).exists():
            yield f"no file {name}"
    for command in re.findall(r"fedfuse(?:-\w+)?(?= )", text):
        if command not in ("fedfuse", "fedfuse-report", "fedfuse-map", "fedfuse-advise"):
            yield f"no command '{command}'"
    for flag in re.findall(r"fedfuse [^.]*?(--[a-z-]+)", text):
        if flag not in usage() and flag not in ("--package", "--help"):
            yield f"no flag '{flag}'"
    if "pip install" in text:
        extra = re.search(r"pip install -c constraints\.txt -e '\.\[([\w{}]+)\]'", text)
        if extra is None:
            yield "another way to install than README.md's"
        elif "{" not in extra[1] and f"\n{extra[1]} =\n" not in (HOME / "setup.cfg").read_text():
            yield f"no extra '{extra[1]}'"


@pytest.mark.parametrize(
    "text",
    [
        "Set client.batchsize=3.",
        "Lower batch_size=3.",
        "Lower batch_size, or num_clients.",
        "Choose rule=mean_log.",
        "Lower dataset.pth.",
        "See docs/nothing.md.",
        "Ask fedfuse-what now.",
        "Read fedfuse.protocols.Scroer.",
        "Try fedfuse --nothing.",
        "Install it with: pip install 'fedfuse[sim]'",
        "Install it with: pip install -c constraints.txt -e '.[smi]'",
    ],
)
def test_a_wrong_hint_would_be_found(text):
    assert list(problems(text))
