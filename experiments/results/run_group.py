"""Put runs side by side: which belong to one federation, and which only differ in their seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.config.comparison_keys import OF_THE_PRIOR, is_fusion_only
from experiments.results.runs import Run
from fedfuse.compare import CONTROLS, LOCAL
from fedfuse.errors import ConfigError
from fedfuse.safe_text import visible


@dataclass(frozen=True)
class RunGroup:
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


def run_groups(runs: Sequence[Run]) -> list[RunGroup]:
    """Group runs by federation and method, in the order they come.

    Two runs are of one federation if their configurations differ in nothing but the seed and what
    cannot change local training.

    Raises:
        ConfigError: If runs of one federation and seed hold different data, or one method is
            there twice with one seed.
    """
    everybody = _without_data_paths(_seedless([settings_of(run) for run in runs]), runs)
    flat = {run.path: config for run, config in zip(runs, everybody, strict=True)}
    federations = _Namer(everybody, [key for key in varying(everybody) if not is_fusion_only(key)])
    members: dict[Identity, list[Run]] = {}
    for run in runs:
        members.setdefault(federations.identity(flat[run.path]), []).append(run)
    # What tells two settings of one method apart, a sweep over beta for instance.
    alike: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        alike.setdefault(run.method, []).append(flat[run.path])
    variants = {
        method: _Namer(configs, [key for key in varying(configs) if is_fusion_only(key)])
        for method, configs in alike.items()
    }
    found = []
    for own in members.values():
        _check_same_data(own)
        methods: dict[str, list[Run]] = {}
        for run in own:
            variant = variants[run.method].label(flat[run.path])
            name = f"{run.method} ({variant})" if variant else run.method
            methods.setdefault(name, []).append(run)
        for name, same in methods.items():
            _check_once(name, same)
        ordered = {name: tuple(sorted(own, key=lambda r: r.seed)) for name, own in methods.items()}
        found.append(RunGroup(federations.label(flat[own[0].path]), ordered))
    return found


def settings_of(run: Run) -> dict[str, Any]:
    """Return a run's configuration by dotted keys, without what training alone cannot notice."""
    flat = flatten(run.config)
    if run.method not in CONTROLS:
        return flat
    noticed = () if run.method == LOCAL else OF_THE_PRIOR
    return {
        key: value
        for key, value in flat.items()
        if not is_fusion_only(key) or key in noticed or key.partition(".")[0] in noticed
    }


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


DATA_PATHS = (
    "dataset.path",
    "dataset.domains",
    "public.dataset.path",
    "sites.paths",
    "partitioner.path",
    "features.weights_file",
    "features.module.path",
)
"""Keys that say where data lies and not what it is."""


def _without_data_paths(
    configs: Sequence[dict[str, Any]], runs: Sequence[Run]
) -> list[dict[str, Any]]:
    """Return configurations without where the data lies, if the same data lies everywhere.

    Runs on one machine and another, or one that went on where its data had moved to, are of one
    federation.
    """
    rest = [{key: config[key] for key in config if key not in DATA_PATHS} for config in configs]
    held: dict[tuple[str, int], set[str]] = {}
    for config, run in zip(rest, runs, strict=True):
        of_data = {key: value for key, value in config.items() if not is_fusion_only(key)}
        same = json.dumps(of_data, sort_keys=True, default=str), run.seed
        held.setdefault(same, set()).add(run.fingerprint)
    return rest if all(len(found) == 1 for found in held.values()) else list(configs)


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
    return [key for key in keys if len({_value(config, key) for config in configs}) > 1]


TARGET = "_target_"
WORDS = 120
"""Characters of a label, about: it is a heading and a legend's entry."""

Identity = tuple[tuple[str, str], ...]
"""The keys that tell a configuration from others, and their values."""


class _Namer:
    """What tells configurations from each other, in full and in a few words.

    Where two parts differ, their names tell them apart; a part's own settings are told only where
    the same part comes with several.

    Args:
        configs: All of them.
        keys: The keys in which they differ.
    """

    def __init__(self, configs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
        self._keys, there = keys, set(keys)
        self._parts = {
            key: part for key in keys if not key.endswith(TARGET) and (part := _part(key)) in there
        }
        values: dict[tuple[str, str], set[str]] = {}
        for config in configs:
            for key, part in self._parts.items():
                values.setdefault((key, _value(config, part)), set()).add(_value(config, key))
        self._open = {setting for setting, found in values.items() if len(found) > 1}
        self._labels: dict[str, Identity] = {}
        self._named: dict[Identity, str] = {}
        for config in configs:
            self._name(self.identity(config))

    def identity(self, config: Mapping[str, Any]) -> Identity:
        """Return the keys that tell a configuration from others, with their values in full."""
        return tuple(
            (key, text(config[key]))
            for key in self._keys
            if key in config
            and (key not in self._parts or (key, _value(config, self._parts[key])) in self._open)
        )

    def label(self, config: Mapping[str, Any]) -> str:
        """Return the same in a few words; two that differ never have one label."""
        return self._named[self.identity(config)]

    def _name(self, identity: Identity) -> None:
        if identity in self._named:
            return
        # partitioner.alpha is alpha to a reader, unless another key ends alike.
        last = [key.rsplit(".", 1)[-1] for key, _ in identity]
        words = []
        for (key, value), end in zip(identity, last, strict=True):
            if end == TARGET:
                name = "none" if value in ("null", "") else value.rsplit(".", 1)[-1].lower()
                words.append(f"{key.rpartition('.')[0]} {name}")
            else:
                words.append(f"{end if last.count(end) == 1 else key} {value}")
        label = unique = visible(", ".join(words), WORDS)
        number = 1
        while self._labels.setdefault(unique, identity) != identity:
            number += 1
            unique = f"{label} ({number})"
        self._named[identity] = unique


def _part(key: str) -> str:
    return f"{key.rpartition('.')[0]}.{TARGET}"


def _value(config: Mapping[str, Any], key: str) -> str:
    return text(config.get(key, ABSENT))


ABSENT = object()


def text(value: Any) -> str:
    """Return a configuration value as one reads it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
