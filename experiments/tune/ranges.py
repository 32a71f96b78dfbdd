"""Over what a method is tuned: its declared ranges, and those of the command line."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, QuotedString
from omegaconf import DictConfig, OmegaConf

from experiments.assembly.chosen import Chosen
from experiments.config import overrides as typed
from experiments.config.prior_use import uses_prior
from experiments.config.words import TARGET, text
from fedfuse.errors import ConfigError

DECLARED: Mapping[str, Mapping[str, str]] = yaml.safe_load(
    Path(__file__).with_name("ranges.yaml").read_text(encoding="utf-8")
)
"""By kind of method or class of part: the ranges of its keys, as on the command line."""
KINDS = ("fused", "softened", "adjusted")
FORMS = "a,b,c or interval(a,b) or tag(log,interval(a,b))"
DIGITS = 3
"""Significant digits of a value that is drawn."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a key may be set to.

    Args:
        key: The key, dotted, or a group.
        default: The value that the method has.
        values: The values of a list; empty for an interval.
        low: Of an interval.
        high: Likewise.
        log: Whether its logarithm is drawn.
    """

    key: str
    default: Any
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def holds(self, value: Any) -> bool:
        """Tell whether a value lies in it."""
        if self.values:
            return value in self.values
        return _is_number(value) and self.low <= value <= self.high

    def drawn(self, attempt: int) -> str:
        """Return the value of one of many draws, the same in every method that has the key."""
        rng = np.random.default_rng([attempt, zlib.crc32(self.key.encode())])
        if self.values:
            return text(self.values[int(rng.integers(len(self.values)))])
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = float(rng.uniform(*ends))
        value = float(f"{math.exp(value) if self.log else value:.{DIGITS}g}")
        value = min(max(value, self.low), self.high)
        return text(round(value) if isinstance(self.default, int) else value)

    @property
    def own(self) -> str:
        """Return the method's own value, written like those that are drawn."""
        same = [value for value in self.values if value == self.default]
        return text(same[0] if same else self.default)

    def __str__(self) -> str:
        """Return the range as the command line has it."""
        if self.values:
            return ",".join(map(text, self.values))
        inner = f"interval({self.low:g},{self.high:g})"
        return f"tag(log,{inner})" if self.log else inner


def draws(ranges: Sequence[Range], trials: int) -> list[dict[str, str]]:
    """Return the settings of each trial: the method's own first, then different draws.

    The first N of more trials are those of N. Where there are fewer combinations than trials, all
    of them are returned.
    """
    found = [{item.key: item.own for item in ranges}]
    combinations = math.prod(len(item.values) or trials for item in ranges)
    attempt = 0
    while len(found) < min(trials, combinations) and attempt < 1000 * trials:
        drawn = {item.key: item.drawn(attempt) for item in ranges}
        found += [] if drawn in found else [drawn]
        attempt += 1
    return found


def declared(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the keys that a method reads and that have a range, with it, kinds of method first.

    Args:
        cfg: The method's configuration, resolved, without Hydra's own node.
    """
    chosen = Chosen(cfg)
    fused = chosen.fuses and chosen.predicts
    kinds = (fused, fused and _has_temperature(cfg.distill), uses_prior(cfg))
    for kind, holds in zip(KINDS, kinds, strict=True):
        yield from DECLARED[kind].items() if holds else ()
    for group in (group for group in map(str, cfg) if isinstance(cfg[group], DictConfig)):
        if fused or group in ("exchange", "merge"):
            for owner, name in _parts(cfg[group], group):
                yield from ((f"{owner}.{key}", of) for key, of in DECLARED.get(name, {}).items())


def ranges(
    cfg: DictConfig,
    choices: Mapping[str, str],
    given: Sequence[Override],
    fixed: set[str],
    loader: Any,
) -> list[Range]:
    """Return over what a method is tuned.

    Args:
        cfg: Its configuration, resolved.
        choices: The option of each group.
        given: Ranges of the command line; they come in the place of declared ones.
        fixed: Keys that the command line sets to one value.
        loader: Hydra's, which reads ranges.

    Raises:
        ConfigError: If there are none, or one cannot be searched or leaves out what the method has.
    """
    found = {}
    for key, words in declared(cfg):
        (item,) = typed.parse([f"{key}={words}"], loader, multirun=True)
        if key not in fixed and (one := _read(item, OmegaConf.select(cfg, key))).holds(one.default):
            found[key] = one
    for item in given:
        key = typed.name(item)
        default = choices[key] if key in choices else OmegaConf.select(cfg, key)
        one = found[key] = _read(item, default)
        if not one.holds(one.default):
            raise ConfigError(
                f"the range of {key} leaves out what method={cfg.method.name} has, which is the "
                "first trial",
                got=str(item.input_line),
                allowed=f"a range with {text(default)} in it",
                next_step=f"Widen it, or set {key} to one value to leave it out of the search.",
            )
    if not found:
        raise ConfigError(
            f"method={cfg.method.name} has no key with a declared range: nothing is to be tuned",
            allowed=f"KEY={FORMS}",
            next_step="Give it one, as optimizer.lr='tag(log,interval(0.0001,0.01))', or choose "
            "another method.",
        )
    return list(found.values())


def _read(item: Override, default: Any) -> Range:
    """Return a range that was parsed.

    Raises:
        ConfigError: If it is no range that can be searched.
    """
    sweep, key = item.value(), typed.name(item)
    allowed = FORMS
    if isinstance(sweep, IntervalSweep):
        low, high, log = float(sweep.start or 0), float(sweep.end or 0), "log" in sweep.tags
        if not _is_number(default):
            allowed = f"values a,b,c: the method has {text(default)}, which is no number"
        elif -math.inf < low < high < math.inf and (low > 0 or not log):
            return Range(key, default, (), low, high, log)
        else:
            allowed = "interval(a,b) with a below b, and with tag(log,...) a above 0"
    elif not isinstance(sweep, Glob):
        plain = (v.text if isinstance(v, QuotedString) else v for v in item.sweep_iterator())
        values = tuple(plain)
        if len(set(map(text, values))) == len(values):
            return Range(key, default, values)
        allowed = "different values a,b,c"
    raise ConfigError(
        f"the range of {key} cannot be searched", got=str(item.input_line), allowed=allowed
    )


def _parts(node: DictConfig, at: str) -> Iterator[tuple[str, str]]:
    """Yield where parts are, from a key on, and the names of their classes."""
    if isinstance(target := node.get(TARGET), str):
        yield at, target.rpartition(".")[2]
    for key in map(str, node):
        if isinstance(node[key], DictConfig):
            yield from _parts(node[key], f"{at}.{key}")


def _has_temperature(node: DictConfig) -> bool:
    inner = (node[key] for key in map(str, node) if isinstance(node[key], DictConfig))
    return "temperature" in node or any(map(_has_temperature, inner))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
