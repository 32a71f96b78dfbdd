"""Paths of a run, made to mean the same wherever it goes on: what was relative becomes absolute."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.config.folder import PATH
from experiments.config.plain import plain
from experiments.config.texts import check_texts
from fedfuse.files.paths import expand

FOLDER = "continue_from"
READ = frozenset(
    {"dataset", "features", "sites", "public", "partitioner", "pretrain", "engine", FOLDER}
)
WRITTEN = frozenset({"reporter"})
"""The groups whose options name files: some that are read, some that are written."""

_ELSEWHERE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|databricks")


def absolute(cfg: DictConfig) -> DictConfig:
    """Return a configuration whose paths do not depend on the folder it is read in: the same if so.

    A path that is to be read and does not exist stays as it was written, for the message about it;
    a URI is no path.
    """
    values = plain(cfg)
    changed = {key: now for key, now in settled(values).items() if now != values[key]}
    check_texts(changed)
    result = cfg.copy() if changed else cfg
    for key, value in changed.items():
        OmegaConf.update(result, str(key), value, merge=False, force_add=True)
    return result


def settled(config: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return :func:`absolute` of plain values."""
    return {
        key: _settled(value, must_exist=key in READ, named=key == FOLDER)
        if key in READ | WRITTEN
        else value
        for key, value in config.items()
    }


def _settled(node: Any, *, must_exist: bool, named: bool = False) -> Any:
    if isinstance(node, Mapping):
        return {
            key: _settled(
                value,
                must_exist=must_exist,
                named=PATH.fullmatch(str(key)) is not None or key == "tracking_uri",
            )
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_settled(item, must_exist=must_exist, named=named) for item in node]
    if not named or not isinstance(node, str) or not node or _ELSEWHERE.match(node):
        return node
    place = expand(node).absolute()
    return str(place) if not must_exist or _exists(place) else node


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a name too long, a folder closed to us: whoever reads it says so
        return False
