"""What settings have come to mean: a run that began when one meant something else does not go on.

Mixing two meanings in one run would be neither of them. Runs that finished are reported as they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fedfuse.errors import ConfigError

KEY = "revision"
REVISION = 1
"""Of the meanings; ``run.json`` holds it, older runs count as 0."""

_Means = Callable[[DictConfig], Any]


def _is(group: str, name: str) -> _Means:
    return lambda cfg: str(cfg[group]._target_ or "").endswith(f".{name}")


def _tempered(cfg: DictConfig) -> bool:
    return bool(cfg.temperature != 1)


CHANGED: Mapping[str, tuple[int, _Means]] = {
    "scorer=ktpfl, whose rho weighed K times as much": (
        1,
        lambda cfg: _is("scorer", "KTpFL")(cfg) and cfg.scorer.get("variant") == "faithful",
    ),
    "familiarity=auxiliary, which scored what it was fitted on": (
        1,
        _is("familiarity", "AuxiliaryScore"),
    ),
    "familiarity=kulsif, whose kernel was six times as wide": (
        1,
        lambda cfg: (
            _is("familiarity", "KuLSIFSelector")(cfg) and cfg.familiarity.get("width") is None
        ),
    ),
    "filter, which was asked about tempered probabilities": (
        1,
        lambda cfg: cfg.filter._target_ is not None and _tempered(cfg),
    ),
    "sharpen, which took fused logits at temperature 1": (
        1,
        lambda cfg: cfg.sharpen._target_ is not None and _tempered(cfg),
    ),
    "student, which learnt what stands where nobody answered, and taught at temperature 1": (
        1,
        lambda cfg: (
            cfg.student._target_ is not None
            and (
                cfg.familiarity._target_ is not None
                or cfg.filter._target_ is not None
                or cfg.cache._target_ is not None
                or (cfg.server.student_teaches and _tempered(cfg))
            )
        ),
    ),
}
"""By words for it: since which revision a setting means something else, and whether a
configuration has it."""


def check_meaning(cfg: DictConfig, record: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a run whose settings have another meaning now.

    Args:
        cfg: Its configuration.
        record: Its ``run.json``.
        folder: Where it lies, for the message.

    Raises:
        ConfigError: For the first such setting.
    """
    begun = record.get(KEY, 0)
    for words, (since, has) in CHANGED.items():
        if (not isinstance(begun, int) or begun < since) and has(cfg):
            raise ConfigError(
                f"the run in '{folder}' was begun with another version of fedfuse",
                got=words,
                next_step="Start it anew, or resume it with that version (run.json names it).",
            )
