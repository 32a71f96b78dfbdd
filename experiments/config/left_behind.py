"""Values that a method sets of a part, where the command line chooses a part without such a key."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from experiments.config.choices import composed
from experiments.config.folder import CONF
from experiments.config.pages import Page, groups, read_page

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


def without_left_behind(hydra: Hydra, lines: Sequence[str]) -> list[str]:
    """Return the overrides of one run with ``~`` for what its method says of parts that it lost.

    ``method=fedgems`` chooses ``student=mlp`` and sets ``student.hidden``; beside
    ``student=lenet5``, which has no such key, that value goes. A key that both parts have stays.
    """
    given = {line.partition("=")[0]: line.partition("=")[2] for line in lines}
    page = _page(given.get("method", groups()["method"][0]))
    if page is None:
        return list(lines)
    gone, where = [], [line for line in lines if line.startswith("hydra.searchpath=")]
    for key, *_ in page.keys:
        group, _, name = key.partition(".")
        option = given.get(group, page.choices.get(group))
        same = option == page.choices.get(group)
        if not name or group == "method" or same or f"~{key}" in lines:
            continue
        part = composed(hydra, [f"{group}={option}", *where])[group]
        if name.partition(".")[0] not in part:
            gone.append(f"~{key}")
    return [*lines, *gone]


@lru_cache(maxsize=32)
def _page(method: str) -> Page | None:
    """Return what a method of fedfuse's own says; nothing of a user's, whose file may change."""
    file = CONF / "method" / f"{method}.yaml"
    return read_page(file) if file.is_file() else None
