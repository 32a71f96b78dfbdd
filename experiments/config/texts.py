"""Paths and names stay the text that the user wrote, whatever else it could be read as.

Hydra and YAML read ``2024_05_01`` as a number and ``on`` as a truth value, and Hydra wants quotes
around most of what a folder may be called. Where a key holds a path that is never meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydrasOwn
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files.paths import expand

_PATH = re.compile(r"(?:.*_)?(?:path|file|folder|dir|credential)s?|subdir")
_NAMES = frozenset(
    {"name", "config", "revision", "image_column", "label_column", "tracking_uri", "experiment"}
)
_LIST = re.compile(r"(?:.*_)?(?:path|file|folder|dir)s")
_SWEEPS = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag)\(.*\)", re.DOTALL)


def is_path(key: str) -> bool:
    """Tell whether a key holds a path, or several.

    >>> [is_path(key) for key in ("dataset.path", "sites.paths.0", "hydra.run.dir", "seed")]
    [True, True, True, False]
    """
    return key == "continue_from" or ("." in key and _PATH.fullmatch(_word(key)) is not None)


def is_text(key: str) -> bool:
    """Tell whether a key holds text, never a number: a path, or the name of something."""
    return is_path(key) or ("." in key and _word(key) in _NAMES)


def as_text(line: str, *, multirun: bool) -> str:
    """Return an override in which the value of a path, or of a name, is quoted for Hydra.

    What the user quoted stays as it is, and so does ``null``. Commas separate values only in a
    sweep, or where all that they separate is there and the whole is not.

    Args:
        line: ``KEY=VALUE``, also with ``+`` or ``++``.
        multirun: Whether values may be swept.

    >>> as_text("dataset.path=2024_05_01", multirun=False)
    "dataset.path='2024_05_01'"
    >>> as_text("dataset.path=data (1),2024", multirun=True)
    "dataset.path='data (1)','2024'"
    """
    key, equals, value = line.partition("=")
    bare = key.lstrip("+")
    if not equals or bare.startswith("~") or not is_text(bare):
        return line
    listed = _LIST.fullmatch(bare.rsplit(".", 1)[-1]) is not None
    if multirun:
        if found := _SWEEPS.fullmatch(value):
            if found[1] != "choice":
                return line
            inner = ",".join(_quoted(part, listed=listed) for part in _split(value[7:-1]))
            return f"{key}=choice({inner})"
        return f"{key}={','.join(_quoted(part, listed=listed) for part in _split(value))}"
    if "," in value and not listed and (not is_path(bare) or _are_several(value)):
        return line
    return f"{key}={_quoted(value, listed=listed)}"


def check_texts(tree: Any) -> None:
    """Refuse a configuration in which a path is no text, or a text would be filled in later.

    All references are resolved, so a ``${`` that is left is meant as it is; but a configuration is
    written and read again, by other processes too, where it would be one.

    Raises:
        ConfigError: Naming the key.
    """
    for key, value in _leaves(tree, ""):
        if isinstance(value, str) and "${" in value:
            raise ConfigError(
                f"{key} holds a '${{', which stands for a reference wherever it is read again",
                got=repr(value),
                next_step="Rename that file or folder, or name a link to it."
                if is_path(key)
                else "Write it without.",
            )
        if is_path(key) and not isinstance(value, str | None):
            raise ConfigError(
                f"{key} must be text",
                got=repr(value),
                next_step="Write it in quotes where it is set, such as path: '2024'.",
            )


def keep_texts() -> None:
    """Make Hydra read paths in YAML files as the text that stands there."""
    Plugins.instance()  # registers Hydra's own reader of files, once
    SourcesRegistry.instance().types["file"] = FileConfigSource


class FileConfigSource(HydrasOwn):
    """Reads YAML files as Hydra does, except that paths and names are never numbers."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a file's configuration."""
        result = super().load_config(config_path)
        named = self._normalize_file_name(config_path)
        text = (Path(self.path) / named).read_text(encoding="utf-8")
        if any(
            is_text(f"_.{key}") and isinstance(value, int | float)
            for key, value in _leaves(result.config, "")
        ):
            result.config = OmegaConf.create(yaml.load(text, loader_of_texts()))  # noqa: S506 - a safe one
        return result


def loader_of_texts() -> Any:
    """Return a loader of YAML that reads paths and names as the text that stands there."""

    class Loader(get_yaml_loader()):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            for key, value in node.value:
                if is_text("_." + str(key.value)):
                    for scalar in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                        _be_text(scalar)
            return super().construct_mapping(node, deep=deep)

    return Loader


def _be_text(node: yaml.Node) -> None:
    kind = node.tag.rsplit(":", 1)[-1]
    if isinstance(node, yaml.ScalarNode) and kind in ("int", "float", "bool"):
        node.tag = "tag:yaml.org,2002:str"


def _word(key: str) -> str:
    """Return the last word of a dotted key that is no position in a list."""
    words = [word for word in key.split(".") if not word.isdigit()]
    return words[-1] if words else ""


def _quoted(value: str, *, listed: bool) -> str:
    text = value.strip()
    if listed and text.startswith("[") and text.endswith("]"):
        inner = [_quoted(part, listed=False) for part in _split(text[1:-1]) if text[1:-1].strip()]
        return f"[{','.join(inner)}]"
    if text.lower() == "null" or _is_quoted(text):
        return text
    return QuotedString(text, Quote.single).with_quotes()


def _is_quoted(text: str) -> bool:
    """Tell whether the text is one quoted string, in Hydra's way of quoting."""
    return re.fullmatch(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", text, re.DOTALL) is not None


def _split(text: str) -> list[str]:
    """Return what top-level commas separate; brackets and quotes hold together."""
    parts, depth, quote, begin, escaped = [], 0, "", 0, False
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in "'\"" and not text[begin:i].strip():
            quote = char
        elif char in "[{(":
            depth += 1
        elif char in ")}]":
            depth = max(0, depth - 1)
        elif char == "," and not depth:
            parts.append(text[begin:i])
            begin = i + 1
    return [*parts, text[begin:]]


def _are_several(value: str) -> bool:
    """Tell whether a text with commas names several paths, of which each is there."""
    parts = _split(value)
    if all(_is_quoted(part.strip()) for part in parts):
        return True
    try:
        return not expand(value).exists() and all(expand(p).exists() for p in parts)
    except (FedfuseError, OSError, ValueError):
        return False


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a configuration and their plain values."""
    plain = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield from _leaves(value, prefix + str(key) + ".")
    elif isinstance(plain, list):
        for number, value in enumerate(plain):
            yield from _leaves(value, f"{prefix}{number}.")
    else:
        yield prefix[:-1], plain
