"""Compose each set of chosen options once in a process: values on top of it read no file again.

Hydra reads some forty files for a configuration and merges them, a quarter of a second. The runs
of a sweep or a map mostly differ in values (seed, samples), which are set on what their choices
have in common.
"""

from __future__ import annotations

import os
import pickle
from weakref import WeakKeyDictionary

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.config import overrides as typed

CONFIG = "config"
PLAIN = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
"""What may be set of Hydra's own node without changing what Hydra does as it composes."""

Made = dict[tuple[str, ...], bytes]
_packaged: dict[tuple[str, ...], Made] = {}
"""By source; the files of packages do not change while a process lives."""
_own: WeakKeyDictionary[Hydra, Made] = WeakKeyDictionary()
"""A user's own folder may change between two commands of one process."""


def composed(hydra: Hydra, lines: list[str]) -> DictConfig:
    """Return the configuration of a command line, with its ``hydra`` node.

    Raises:
        HydraException: As Hydra's ``compose_config``, which gives the same.
    """
    loader = hydra.config_loader
    parsed = OverridesParser(typed.FUNCTIONS, loader).parse_overrides(lines)
    if not all(_understood(item) for item in parsed):
        return hydra.compose_config(CONFIG, lines, run_mode=RunMode.RUN)
    chosen = [item for item in parsed if typed.is_choice(item, loader)]
    rest = [item for item in parsed if not typed.is_choice(item, loader)]
    made, key = _made(hydra), tuple(str(item.input_line) for item in chosen)
    if key not in made:
        base = hydra.compose_config(CONFIG, list(key), run_mode=RunMode.RUN)
        made[key] = pickle.dumps(base)
    cfg: DictConfig = pickle.loads(made[key])  # noqa: S301 - our own, a tenth of a deepcopy
    ConfigLoaderImpl._apply_overrides_to_config(rest, cfg)
    _note(cfg, parsed)
    return cfg


def _understood(item: Override) -> bool:
    """Tell whether an override only chooses an option or sets a value of fedfuse's or of PLAIN."""
    key = item.key_or_group
    ours = not key.startswith(("hydra.", "hydra/")) or key in PLAIN
    return ours and not item.package and not item.is_sweep_override()


def _made(hydra: Hydra) -> Made:
    """Return what has been composed from the sources of a configuration."""
    sources = hydra.config_loader.get_sources()
    if any(source.scheme() == "file" for source in sources):
        return _own.setdefault(hydra, {})
    return _packaged.setdefault(tuple(source.full_path() for source in sources), {})


def _note(cfg: DictConfig, parsed: list[Override]) -> None:
    """Write down what the command line said, as Hydra does."""
    mine = [item for item in parsed if not item.is_hydra_override()]
    cfg.hydra.overrides.hydra = [item.input_line for item in parsed if item.is_hydra_override()]
    cfg.hydra.overrides.task = [item.input_line for item in mine]
    cfg.hydra.runtime.cwd = str(os.getcwd())  # noqa: PTH109 - as Hydra writes it
    words = cfg.hydra.job.config.override_dirname
    cfg.hydra.job.override_dirname = get_overrides_dirname(
        overrides=mine,
        kv_sep=words.kv_sep,
        item_sep=words.item_sep,
        exclude_keys=words.exclude_keys,
    )
