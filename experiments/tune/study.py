"""A tuning's folder: a sweep of its trials, and beside the sweep's plan what each of them tries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from experiments.assembly.build_all import check_parts
from experiments.config import compose
from experiments.config import overrides as typed
from experiments.pack.preflight import packed
from experiments.runs.prepare import check_hydra_keys, launched_elsewhere
from experiments.runs.sweep_plan import FOLDER, TUNING
from experiments.tune.ranges import draws, ranges
from fedfuse.errors import ConfigError
from fedfuse.files import confined

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.override_parser.types import Override

FORMAT = 1
SEEDS = 10_000
"""The first seed that is for tuning: no table and no experiment uses it or one above it."""
ETA = 3
"""Successive halving keeps every third trial and gives it three times the rounds."""
SEARCHES = ("random", "halving")
CHEAPER = {"baseline": "none", "models": "none"}
"""What a trial leaves out, unless it is asked for: nothing of it is read."""
OWNED = {"num_rounds", "evaluation.every", "num_clients", "val_fraction"}
"""Keys that are not searched over: what is spent, and on what trials are judged."""
FEDERATION = {
    *(
        "dataset",
        "sites",
        "public",
        "partitioner",
        "participation",
        "faults",
        "attack",
        "evaluation",
    ),
    *("test_fraction", "engine", "reporter", "checkpoint", "hydra", "baseline", "models", "budget"),
}
"""Groups and keys of which nothing is searched over: a trial among easier data proves nothing."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A method's search.

    Args:
        method: The method, as it was asked for.
        ranges: What is searched, as the command line has it, by key.
        rounds: The rounds of each rung, the last of them all; one rung for ``random``.
        trials: The settings of each trial, the method's own first.
    """

    method: str
    ranges: Mapping[str, str]
    rounds: Sequence[int]
    trials: Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that ``fedfuse tune`` was asked for.

    Args:
        words: What all trials have in common, as on the command line.
        search: ``random`` or ``halving``.
        trials: How many were asked for.
        seeds: Of the federations that a trial runs in.
        tuned: The methods.
    """

    words: Sequence[str]
    search: str
    trials: int
    seeds: Sequence[int]
    tuned: Sequence[Tuned]

    def places(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield method, rung, trial and seed of each run of the sweep, in its order."""
        for one in self.tuned:
            for rung in range(len(one.rounds)):
                for trial in range(len(one.trials)):
                    yield from ((one.method, rung, trial, seed) for seed in self.seeds)

    def write(self, path: Path) -> None:
        """Write it down beside the plan of the sweep."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False)
        (path / FOLDER / TUNING).write_text(text, encoding="utf-8")


def read(path: Path) -> Study:
    """Return what a folder's tuning was asked for, whoever wrote it.

    Raises:
        ConfigError: If it is none that this version can read.
    """
    try:
        told = json.loads(confined.read(path, FOLDER, TUNING, most=2**24))
        if told.pop("format") != FORMAT:
            raise ValueError("another format")
        tuned = [Tuned(**one) for one in told.pop("tuned")]
        study = Study(**told, tuned=tuned)
        _check_read(study)
    except (OSError, ValueError, LookupError, TypeError, RecursionError, AttributeError) as error:
        raise ConfigError(
            f"'{path}' holds no tuning that can be read",
            got=" ".join(str(error).split())[:200] or type(error).__name__,
            allowed="a folder that fedfuse tune made",
            next_step="Name that folder; if this is it and it was damaged, begin a new tuning.",
        ) from error
    return study


def _check_read(study: Study) -> None:
    """Raise ValueError unless what was read can be gone on with; files are named after methods."""
    good = [isinstance(word, str) and "=" in word for word in study.words]
    for one in study.tuned:
        good += [isinstance(one.method, str) and re.fullmatch(r"\w+", one.method) is not None]
        good += [bool(one.rounds), bool(one.trials)]
        good += [isinstance(number, int) for number in (*one.rounds, *study.seeds)]
        good += [list(trial) == list(one.ranges) for trial in one.trials]
        good += [isinstance(value, str) for trial in one.trials for value in trial.values()]
    if not all(good):
        raise ValueError("it was changed")


def rungs(trials: int, rounds: int, least: int) -> list[int]:
    """Return the rounds of successive halving's rungs, the last of them all.

    Args:
        trials: How many begin.
        rounds: Of a whole run.
        least: Rounds that a run takes at least.

    >>> rungs(9, 18, 2), rungs(8, 4, 2), rungs(2, 10, 2)
    ([2, 6, 18], [2, 4], [10])
    """
    steps = range(int(math.log(trials, ETA) + 1e-9), -1, -1)
    return sorted({max(least, rounds // ETA**step) for step in steps} | {rounds})


def survivors(ranked: Sequence[int]) -> list[int]:
    """Return which trials reach the next rung: the best third, at least one.

    >>> survivors([4, 0, 2, 1, 3, 5])
    [4, 0]
    """
    return list(ranked[: max(1, math.ceil(len(ranked) / ETA))])


def plan(
    hydra: Hydra, words: Sequence[str], trials: int, search: str
) -> tuple[Study, list[DictConfig]]:
    """Return a tuning, and the configuration of each of its runs with its ``hydra`` node.

    Everything is composed and checked before the first run begins.

    Args:
        hydra: fedfuse's configuration.
        words: As for a run. ``method`` may name several, ``seed`` too, and a key with several
            values is searched over.
        trials: Of each method.
        search: One of :data:`SEARCHES`.

    Raises:
        FedfuseError: For the first mistake found.
    """
    loader = hydra.config_loader
    parsed = typed.parse(words, loader, multirun=True)
    typed.check_options(parsed, loader)
    named = {typed.name(item): item for item in parsed}
    methods = [str(value) for value in typed.values(named["method"])] if "method" in named else []
    if not methods:
        raise ConfigError(
            "fedfuse tune needs a method",
            allowed="method=NAME, or several as method=A,B",
            next_step="Try: fedfuse tune method=mean trials=8",
        )
    if len(set(methods)) < len(methods):
        raise ConfigError(
            "a method is named twice", got=f"method={','.join(methods)}", next_step="Keep one."
        )
    seeds = _seeds(named.get("seed"))
    given = [i for i in parsed if i.is_sweep_override() and typed.name(i) not in ("method", "seed")]
    for key in map(typed.name, given):
        if key in OWNED or key.split(".")[0] in FEDERATION:
            raise ConfigError(
                f"{key} is the same in all trials, because "
                + ("it is what they may spend" if key in OWNED else "they are judged on one task"),
                got=str(named[key].input_line),
                next_step=f"Give {key} one value.",
            )
    common = [i for i in parsed if i not in given and typed.name(i) not in ("method", "seed")]
    if taken := [str(item.input_line) for item in common if item.is_delete()]:
        raise ConfigError(
            "a method's file, which a tuning leaves, cannot take a key out",
            got=taken[0],
            next_step="Write the part without it in an option of its own, and name its folder in "
            "--config-dir.",
        )
    lines = [str(item.input_line) for item in common]
    check_hydra_keys(lines, many=True)
    fixed = {typed.name(item) for item in common}
    lines += [f"{key}={value}" for key, value in CHEAPER.items() if key not in fixed]
    tuned, configs = [], []
    for method in methods:
        whole = _composed(hydra, [f"method={method}", *lines])
        cfg = compose.own_keys(whole)
        OmegaConf.resolve(cfg)
        _check(whole, cfg)
        rounds = [cfg.num_rounds]
        if search == "halving":
            rounds = rungs(trials, cfg.num_rounds, cfg.warmup_rounds + 1)
        typed.check_keys(
            [i for i in given if not typed.is_choice(i, loader)], whole, typed.groups(loader)
        )
        found = ranges(cfg, whole.hydra.runtime.choices, given, fixed, loader)
        settings = draws(found, trials)
        tuned.append(Tuned(method, {one.key: str(one) for one in found}, rounds, settings))
        for rung in rounds:
            for setting in settings:
                own = [f"method={method}", *(f"{key}={value}" for key, value in setting.items())]
                own += [*(line for line in lines if not line.startswith("num_rounds="))]
                every = [] if "evaluation.every" in fixed else [f"evaluation.every={rung}"]
                own += [f"num_rounds={rung}", *every]
                configs += [_composed(hydra, [*own, f"seed={seed}"]) for seed in seeds]
    packed(configs, many=True)
    return Study(lines, search, trials, seeds, tuned), configs


def _composed(hydra: Hydra, lines: Sequence[str]) -> DictConfig:
    """Return a checked configuration, with Hydra's node."""
    _, (whole,) = compose.check(hydra, list(lines), multirun=False)
    check_parts(whole)
    return whole


def _seeds(item: Override | None) -> list[int]:
    values: list[Any] = [SEEDS]
    if item is not None:
        values = [int(v) if str(v).isdigit() else v for v in typed.values(item)]
    wrong = [value for value in values if not isinstance(value, int) or value < SEEDS]
    if wrong:
        raise ConfigError(
            "seeds below are those of tables, which a tuning does not see",
            got=f"seed={wrong[0]}",
            allowed=f"integers from {SEEDS}",
            next_step=f"Set seed={SEEDS},{SEEDS + 1} for two federations, or leave it out for one.",
        )
    if len(set(values)) < len(values):
        raise ConfigError(
            "a seed is given twice, and the same federation is no second witness",
            got=f"seed={','.join(map(str, values))}",
            next_step="Keep one.",
        )
    return values


def _check(whole: DictConfig, cfg: DictConfig) -> None:
    """Refuse what cannot be tuned on validation data here."""
    if cfg.val_fraction == 0 and cfg.sites._target_ is None:
        raise ConfigError(
            "a trial is judged by its clients' validation data, and nobody holds any back",
            got="val_fraction=0",
            allowed="val_fraction above 0",
        )
    if axes := dict(whole.hydra.sweeper.params or {}):
        raise ConfigError(
            f"the experiment is a sweep over {', '.join(map(str, axes))}, and a tuning is about "
            "one federation",
            next_step="Leave the experiment out and set what it fixes.",
        )
    if launched_elsewhere(whole):
        raise ConfigError(
            "fedfuse tune runs its trials itself",
            got=f"hydra/launcher={whole.hydra.launcher._target_}",
            allowed="workers=N, or engine.pack=true",
        )
