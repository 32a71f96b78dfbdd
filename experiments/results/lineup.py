"""Put runs side by side: which belong to one federation, and which only differ in their seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.baselines import FUSION_ONLY, FUSION_ONLY_CLIENT
from experiments.results.runs import Run
from fedfuse.errors import ConfigError


@dataclass(frozen=True)
class Lineup:
    """Methods on one federation.

    Args:
        label: What tells this federation from the others; empty if it is alone.
        methods: Per method its runs, one a seed, seeds ascending.
    """

    label: str
    methods: Mapping[str, tuple[Run, ...]]

    @property
    def contenders(self) -> dict[str, tuple[Run, ...]]:
        """Return the methods that have a baseline to be compared with."""
        return {name: runs for name, runs in self.methods.items() if runs[0].baseline is not None}


def lineups(runs: Sequence[Run]) -> list[Lineup]:
    """Group runs by federation and method, in the order they come.

    Two runs are of one federation if their configurations differ in nothing but the seed and what
    cannot change local training.

    Raises:
        ConfigError: If runs of one federation and seed hold different data, or one method is
            there twice with one seed.
    """
    everybody = _seedless([flatten(run.config) for run in runs])
    flat = {run.path: config for run, config in zip(runs, everybody, strict=True)}
    shared = [key for key in varying(everybody) if not _is_fusion(key)]
    federations: dict[str, list[Run]] = {}
    for run in runs:
        label = _label(flat[run.path], shared, everybody)
        federations.setdefault(label, []).append(run)
    # What tells two settings of one method apart, a sweep over beta for instance.
    alike = {
        method: [flat[run.path] for run in runs if run.method == method]
        for method in dict.fromkeys(run.method for run in runs)
    }
    variants = {
        method: [key for key in varying(configs) if _is_fusion(key)]
        for method, configs in alike.items()
    }
    found = []
    for label, members in federations.items():
        _check_same_data(members)
        methods: dict[str, list[Run]] = {}
        for run in members:
            variant = _label(flat[run.path], variants[run.method], alike[run.method])
            name = f"{run.method} ({variant})" if variant else run.method
            methods.setdefault(name, []).append(run)
        for name, own in methods.items():
            _check_once(name, own)
        ordered = {name: tuple(sorted(own, key=lambda r: r.seed)) for name, own in methods.items()}
        found.append(Lineup(label, ordered))
    return found


def _seedless(configs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return configurations without their seed, also where a part follows it (scorer.seed).

    A part's seed that is not the run's in every one of them stays: it is a setting.
    """
    keys = {key for config in configs for key in config if key.endswith(".seed")}
    follow = {
        key
        for key in keys
        if all(config[key] == config.get("seed") for config in configs if key in config)
    }
    return [
        {key: value for key, value in config.items() if key != "seed" and key not in follow}
        for config in configs
    ]


def _check_same_data(runs: Sequence[Run]) -> None:
    """Refuse to compare methods that saw different data."""
    first: dict[int, Run] = {}
    for run in runs:
        other = first.setdefault(run.seed, run)
        if run.fingerprint != other.fingerprint:
            raise ConfigError(
                "two runs of one comparison hold different data",
                got=f"{other.path.name} has {other.fingerprint}, {run.path.name} has "
                f"{run.fingerprint}, both with seed {run.seed}",
                allowed="the same data and the same split for every method of a seed",
                next_step="The data set's files changed between the two; run both again.",
            )


def _check_once(name: str, runs: Sequence[Run]) -> None:
    seen: dict[int, Run] = {}
    for run in runs:
        if other := seen.get(run.seed):
            raise ConfigError(
                f"the folder holds {name} twice with seed {run.seed}",
                got=f"{other.path.name} and {run.path.name}",
                next_step="Move one of them away; the same run twice is no second witness.",
            )
        seen[run.seed] = run


def _is_fusion(key: str) -> bool:
    """Tell whether a dotted key cannot change what a client learns alone."""
    top, _, rest = key.partition(".")
    return top in FUSION_ONLY or (top == "client" and rest in FUSION_ONLY_CLIENT)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return a configuration's values by their dotted keys.

    >>> flatten({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that do not have one value everywhere, in the order they come.

    >>> varying([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 0}])
    ['b', 'c']
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    absent = object()
    return [key for key in keys if len({text(config.get(key, absent)) for config in configs}) > 1]


TARGET = "_target_"


def _label(
    config: Mapping[str, Any], keys: Sequence[str], others: Sequence[Mapping[str, Any]]
) -> str:
    """Return what tells a configuration from others, in a few words.

    Where two parts differ, their names tell them apart; a part's own settings are told only where
    the same part comes with several.
    """
    told = []
    for key in keys:
        group, _, end = key.rpartition(".")
        part = f"{group}.{TARGET}"
        if end != TARGET and part in keys:
            same = [other for other in others if other.get(part) == config.get(part)]
            if not varying([{key: other.get(key)} for other in same]):
                continue
        if key in config:
            told.append(key)
    # partitioner.alpha is alpha to a reader, unless another key ends alike.
    last = [key.rsplit(".", 1)[-1] for key in told]
    words = []
    for key, end in zip(told, last, strict=True):
        if end == TARGET:
            name = str(config[key] or "none").rsplit(".", 1)[-1].lower()
            words.append(f"{key.rpartition('.')[0]} {name}")
        else:
            words.append(f"{end if last.count(end) == 1 else key} {text(config[key])}")
    return ", ".join(words)


def text(value: Any) -> str:
    """Return a configuration value as one reads it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
