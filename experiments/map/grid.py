"""What a map consists of: its axes, its cells, and the configuration of each cell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig, OmegaConf

from experiments.assembly.build_all import check_parts
from experiments.config import compose
from experiments.config.hints import hint, unknown_option
from experiments.config.paths import absolute
from fedfuse.compare import LOCAL
from fedfuse.errors import ConfigError
from fedfuse.files.paths import expand

PREFIX = "map."

OWNED = {
    "partitioner": "map.samples and map.alpha",
    "method": "map.methods",
    "seed": "map.seeds",
    "baseline": "map.methods; the baseline is always local training",
    "engine": "map.workers; cells run side by side, each in one process",
    "hydra": "map.dir",
}
"""Keys that a map sets itself, and what to say in their place."""

PACK = "engine.pack"
"""The one key of an engine that is the user's: whether all cells train together."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a map.

    Args:
        samples: Private samples of every client (its validation share included).
        alpha: Concentration of the Dirichlet distribution of each client's classes.
        method: The method, ``local`` for the baseline on its own.
        seed: Of everything.
    """

    samples: int
    alpha: float
    method: str
    seed: int

    @property
    def name(self) -> str:
        """Return the name of the cell's run folder."""
        return f"s{self.samples}-a{self.alpha:g}-{self.method}-seed{self.seed}"

    @property
    def federation(self) -> tuple[int, float, int]:
        """Return what cells with one local baseline share."""
        return self.samples, self.alpha, self.seed


@dataclass(frozen=True, slots=True)
class Axes:
    """What a map spans.

    Args:
        samples: Samples per client, ascending.
        alpha: Dirichlet alphas, ascending.
        methods: The methods; ``local`` always comes first, whether it was named or not.
        seeds: Seeds, ascending.
        dir: The map's folder; None makes a new one.
        workers: Processes side by side; None takes one per core.
    """

    samples: tuple[int, ...] = (50, 200)
    alpha: tuple[float, ...] = (0.1, 1.0)
    methods: tuple[str, ...] = (LOCAL, "knfu")
    seeds: tuple[int, ...] = (0, 1)
    dir: Path | None = None
    workers: int | None = None

    @property
    def contenders(self) -> tuple[str, ...]:
        """Return the methods that are compared with local training."""
        return tuple(method for method in self.methods if method != LOCAL)

    def cells(self) -> list[Cell]:
        """Return every cell, federation by federation, local training first."""
        places = itertools.product(self.seeds, self.alpha, self.samples)
        return [Cell(n, a, m, s) for s, a, n in places for m in self.methods]


def parse(lines: Sequence[str]) -> tuple[Axes, list[str]]:
    """Return the axes that ``map.*`` lines name, and the other lines.

    Raises:
        ConfigError: For a key that a map does not have, a value it cannot take, or a key of a run
            that the map itself sets.
    """
    chosen: dict[str, Any] = {}
    rest = []
    for line in lines:
        key, equals, value = line.partition("=")
        if not key.startswith(PREFIX):
            _refuse_owned(line)
            rest.append(line)
            continue
        name = key.removeprefix(PREFIX)
        known = [entry.name for entry in fields(Axes)]
        if name not in known or not equals:
            raise ConfigError(
                f"a map has no '{key}'.", next_step=hint(key, [PREFIX + k for k in known], "Keys")
            )
        if name in chosen:
            raise ConfigError(f"{key} is given twice.", next_step="Write all its values as one.")
        chosen[name] = _READERS[name](key, value)
    if "methods" in chosen:
        chosen["methods"] = (LOCAL, *(m for m in chosen["methods"] if m != LOCAL))
        if len(chosen["methods"]) == 1:
            raise ConfigError(
                "map.methods names no method besides local training",
                got="map.methods=[local]",
                next_step="Add one, such as map.methods=[local,knfu].",
            )
    return Axes(**chosen), rest


def configure(hydra: Hydra, axes: Axes, lines: list[str]) -> dict[Cell, DictConfig]:
    """Return the checked configuration of every cell.

    Each method is composed once; its cells differ in three values.

    Raises:
        ConfigError: For the first mistake found.
    """
    options = hydra.config_loader.get_group_options("method")
    for method in axes.methods:
        if method not in options:
            raise unknown_option("method", method, options)
    configs: dict[Cell, DictConfig] = {}
    first: dict[str, DictConfig] = {}
    # A map is about numbers: its cells leave no models unless they are asked for.
    lines = lines if any(line.startswith("models=") for line in lines) else [*lines, "models=none"]
    for cell in axes.cells():
        if cell.method not in first:
            own = [*lines, "partitioner=dirichlet_inner", f"method={cell.method}"]
            _, (whole,) = compose.check(hydra, own, multirun=False)
            first[cell.method] = absolute(compose.own_keys(whole))
        cfg = first[cell.method].copy()
        cfg.seed = cell.seed
        OmegaConf.resolve(cfg)  # only now: parts that draw take the cell's seed
        # The batch size decides how few samples are too few, not the partitioner.
        cfg.partitioner.update({"alpha": cell.alpha, "sizes": cell.samples, "min_samples": 1})
        configs[cell] = cfg
    for method, cfg in first.items():
        cell = next(cell for cell in configs if cell.method == method)
        check_parts(configs[cell])
        if cfg.method.name != method:
            raise ConfigError(
                f"the option method={method} names itself '{cfg.method.name}'.",
                next_step="Give the option's file the name of its method.",
            )
    return configs


def _refuse_owned(line: str) -> None:
    key = line.partition("=")[0].lstrip("+~")
    top = key.partition(".")[0].partition("@")[0]
    if top in OWNED and key != PACK:
        raise ConfigError(f"'{line}' is for the map to set.", next_step=f"Use {OWNED[top]}.")


def _numbers(kind: type, allowed: str, ok: Callable[[Any], bool]) -> Callable[[str, str], Any]:
    """Return a reader of distinct numbers, sorted."""

    def read(key: str, value: str) -> tuple[Any, ...]:
        given = _listed(key, value)
        for item in given:
            right = isinstance(item, int | kind) and not isinstance(item, bool) and ok(item)
            if not right:
                raise ConfigError(f"{key} is not valid", got=repr(item), allowed=allowed)
        return tuple(sorted(_distinct(key, [kind(item) for item in given])))

    return read


def _names(key: str, value: str) -> tuple[str, ...]:
    return tuple(_distinct(key, [str(item) for item in _listed(key, value)]))


def _distinct(key: str, values: list[Any]) -> list[Any]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ConfigError(f"{key} names a value twice", got=twice, next_step="Leave one out.")
    return values


def _listed(key: str, value: str) -> list[Any]:
    """Return the values of ``[a,b]``, ``a,b`` or ``a``."""
    text = value.strip()
    try:
        found = yaml.safe_load(text if text.startswith("[") else f"[{text}]")
    except yaml.YAMLError:
        found = None
    if not isinstance(found, list) or not found:
        raise ConfigError(
            f"{key} is not a list", got=repr(value), allowed=f"values such as {key}=[a,b]"
        )
    return found


def _folder(key: str, value: str) -> Path:
    if not value.strip():
        raise ConfigError(f"{key} names no folder.", next_step=f"Write {key}=FOLDER.")
    return expand(value)


def _count(key: str, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdigit() or int(value) < 1:
        raise ConfigError(
            f"{key} is not valid", got=repr(value), allowed="auto or an integer of at least 1"
        )
    return int(value)


_READERS: dict[str, Callable[[str, str], Any]] = {
    "samples": _numbers(int, "integers of at least 2", lambda n: n >= 2),
    "alpha": _numbers(float, "finite numbers above 0", lambda a: 0 < a < math.inf),
    "methods": _names,
    "seeds": _numbers(int, "integers from 0 to 2**63 - 1", lambda s: 0 <= s < 2**63),
    "dir": _folder,
    "workers": _count,
}
