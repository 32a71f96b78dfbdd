"""Read each packaged configuration file once in a process, however many choices are composed.

Hydra reads and parses some forty files for each set of chosen options, and for each of them builds
anew what an interpolation in a defaults list may name: three quarters of the time. And each word of
a command line is read four times, with a parser written in Python.
"""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

from hydra import version
from hydra._internal import defaults_list as tree
from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import InputDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

_read: dict[tuple[str, ...], bytes] = {}
"""What a file held, by the sources that are asked before it and its name; ours, so no secret."""
_known_choices = tree._create_interpolation_map
_parse = OverridesParser.parse_rule


class Remembering(ConfigRepository):
    """The sources of a configuration; only files of a user's own are read again."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Remembering:
        """Return one that may be given other sources; the sources themselves never change."""
        return copy.copy(self)

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return what a configuration file holds, None if there is none."""
        key = (*(source.full_path() for source in self.sources), config_path)
        if key in _read:
            kept: ConfigResult = pickle.loads(_read[key])  # noqa: S301 - our own
            return kept
        found: ConfigResult | None = super().load_config(config_path)
        if found is not None and not any(source.scheme() == "file" for source in self.sources):
            _read[key] = pickle.dumps(found)
        return found


def _only_where_asked(
    overrides: tree.Overrides, defaults_list: list[InputDefault], self_added: bool
) -> DictConfig:
    """Return what interpolations in a defaults list may name, if there are any."""
    if any(default.is_interpolation() for default in defaults_list if not default.is_self()):
        return _known_choices(overrides, defaults_list, self_added)
    return DictConfig({})


@functools.lru_cache(maxsize=4096)
def _parsed(text: str, rule: str) -> Any:
    return _parse(OverridesParser.create(), text, rule)


def _parse_once(_: OverridesParser, text: str, rule: str) -> Any:
    """Return what a word of a command line says; each caller gets one of its own."""
    return copy.deepcopy(_parsed(text, rule))


tree._create_interpolation_map = _only_where_asked
OverridesParser.parse_rule = _parse_once  # type: ignore[method-assign,assignment]
version._get_version = functools.cache(version._get_version)  # asked for each option of each group
