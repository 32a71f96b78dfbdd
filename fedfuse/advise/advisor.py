"""The advisor: one regression per test protocol and level, and where they come from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fedfuse.advise.forecast import Forecast
from fedfuse.advise.probe import FEATURES, Array, Probe, beside_federation
from fedfuse.advise.ridge import Ridge, fit_ridge
from fedfuse.advise.rivals import coalitions, heterogeneity
from fedfuse.advise.score import Past
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files import confined

FORMAT = 2
SHIPPED = Path(__file__).with_name("fitted.json")
"""The coefficients that come with fedfuse."""
_FIT = "Fit it again: fedfuse-advise fit MAP... -o FILE."

TESTS = ("accuracy_own", "accuracy_global")
MIN_FEDERATIONS = 4
"""Fewer teach nothing."""
LEAST_GAIN = 1e-3
"""What a data set's gains are told in at least: smaller ones are the tests' error."""
MIN_DATASETS = 3
"""Fewer do not show what changes from one to the next."""

FEDERATION, CLIENT = "federation", "client"


@dataclass(frozen=True)
class Case:
    """A probe and what came of it in the end.

    Args:
        probe: What was seen first.
        gains: Per test protocol each client's accuracy minus its twin's at the end, [K].
        group: The federation; cases of several methods on it share one.
        fold: What is left out together in an evaluation: the seed.
        dataset: The data set, left out together where there are several.
        apart: What rivals know and a probe does not: how far apart the clients' labels are,
            :func:`fedfuse.advise.rivals.distances`, [K, K].
    """

    probe: Probe
    gains: Mapping[str, Array]
    group: str
    fold: int
    dataset: str
    apart: Array

    @cached_property
    def heterogeneity(self) -> Array:
        """Each client's size times heterogeneity, [K]."""
        return heterogeneity(self.probe.samples, self.apart)

    @cached_property
    def in_company(self) -> Array:
        """Whether FedCollab leaves each client not alone, [K]."""
        groups = coalitions(self.probe.samples, self.apart)
        return np.array([groups.count(group) > 1 for group in groups])


@dataclass(frozen=True)
class Advisor:
    """Forecasts from a probe.

    Args:
        rounds: Rounds of the probes that it was fitted on.
        heads: The regressions by (level, test protocol).
        past: What had come out in the cases that it was fitted on, likewise.
        fitted: On what, and the command that does it again.
        evaluated: How it did on what it had not seen, one entry per data set.
    """

    rounds: int
    heads: Mapping[tuple[str, str], Ridge]
    past: Mapping[tuple[str, str], Past]
    fitted: Mapping[str, Any] = field(default_factory=dict)
    evaluated: Sequence[Mapping[str, Any]] = ()

    def federation(self, probe: Probe, test: str) -> Forecast:
        """Return the forecast of the clients' mean gain."""
        (found,) = _forecasts(self.heads[FEDERATION, test], probe.federation()[None])
        return found

    def clients(self, probe: Probe, test: str) -> list[Forecast | None]:
        """Return the forecast of each client's gain; None for one that took no part."""
        features = beside_federation(probe.clients())
        known = [bool(np.isfinite(row).all()) for row in features]
        found = iter(_forecasts(self.heads[CLIENT, test], features[known]))
        return [next(found) if there else None for there in known]

    def reasons(self, probe: Probe, test: str) -> list[tuple[str, float, float]]:
        """Return (feature, its value, what it adds to the expected gain), largest first."""
        ridge, x = self.heads[FEDERATION, test], probe.federation()[None]
        rows = zip(ridge.names, x[0].tolist(), ridge.shares(x)[0].tolist(), strict=True)
        return sorted(rows, key=lambda row: -abs(row[2]))


def fit_advisor(cases: Sequence[Case], rounds: int, fitted: Mapping[str, Any]) -> Advisor:
    """Fit every regression.

    What is left out to choose a penalty and to know the error is all of one data set, if there are
    three or more: the next one is another again. Else it is all of one seed: its federations share
    their public set and initial weights, and along a map's row the clients' class shares. Of one
    seed alone it is one federation after the other. Of several data sets, gains count in units of
    their own data set's, for where they are ten times as large fusing need not be decided.

    Args:
        cases: Probes and what came of them.
        rounds: Rounds of the probes.
        fitted: Where they come from.

    Raises:
        FedfuseError: If there is too little to learn from.
    """
    federations, seeds = len({case.group for case in cases}), len({case.fold for case in cases})
    if federations < MIN_FEDERATIONS:
        raise FedfuseError(
            "There is too little to learn from",
            got=f"{federations} federations",
            allowed=f"{MIN_FEDERATIONS} or more",
        )
    whole = np.stack([case.probe.federation() for case in cases])
    groups = [str(case.fold) if seeds > 1 else case.group for case in cases]
    if several(cases):
        groups = [case.dataset for case in cases]
    each = [beside_federation(case.probe.clients()) for case in cases]
    there = [
        np.isfinite(rows).all(axis=1) & np.all([np.isfinite(case.gains[t]) for t in TESTS], axis=0)
        for rows, case in zip(each, cases, strict=True)
    ]
    clients = np.concatenate([rows[kept] for rows, kept in zip(each, there, strict=True)])
    owners = [group for group, kept in zip(groups, there, strict=True) for _ in range(kept.sum())]
    both = (*FEATURES, *(f"{name} (own)" for name in FEATURES))
    heads, past = {}, {}
    for test in TESTS:
        mean = np.array([np.nanmean(case.gains[test]) for case in cases])
        single = np.concatenate(
            [case.gains[test][kept] for case, kept in zip(cases, there, strict=True)]
        )
        units = _units(mean, groups) if several(cases) else dict.fromkeys(groups, 1.0)
        told = [np.array([units[name] for name in whose]) for whose in (groups, owners)]
        heads[FEDERATION, test] = fit_ridge(whole, mean, groups, tuple(FEATURES), units=told[0])
        heads[CLIENT, test] = fit_ridge(clients, single, owners, both, units=told[1])
        past[FEDERATION, test] = Past.of(mean, np.array([c.heterogeneity.mean() for c in cases]))
        past[CLIENT, test] = Past.of(
            single,
            np.concatenate([c.heterogeneity[k] for c, k in zip(cases, there, strict=True)]),
        )
    return Advisor(rounds, heads, past, fitted)


def _units(gains: Array, groups: Sequence[str]) -> dict[str, float]:
    """Return the root mean square of each data set's gains over the geometric mean of all."""
    rms = {
        name: max(float(np.sqrt(np.mean(gains[np.array(groups) == name] ** 2))), LEAST_GAIN)
        for name in set(groups)
    }
    usual = math.exp(sum(map(math.log, rms.values())) / len(rms))
    return {name: value / usual for name, value in rms.items()}


def several(cases: Sequence[Case]) -> bool:
    """Tell whether cases are of data sets enough to learn what changes between them."""
    return len({case.dataset for case in cases}) >= MIN_DATASETS


def _forecasts(ridge: Ridge, x: Array) -> Iterable[Forecast]:
    rows = zip(ridge.expect(x), ridge.error(x), ridge.strange(x), strict=True)
    return [
        Forecast(
            float(expected),
            float(error),
            tuple(name for name, odd in zip(ridge.names, strange, strict=True) if odd),
        )
        for expected, error, strange in rows
    ]


def save_advisor(advisor: Advisor, file: Path) -> None:
    """Write an advisor as JSON."""
    heads = {
        "/".join(key): {name: _plain(value) for name, value in vars(ridge).items()}
        for key, ridge in advisor.heads.items()
    }
    content = {
        "format": FORMAT,
        "rounds": advisor.rounds,
        "fitted": dict(advisor.fitted),
        "evaluated": [_known(entry) for entry in advisor.evaluated],
        "past": {"/".join(key): asdict(past) for key, past in advisor.past.items()},
        "heads": heads,
    }
    # A list of numbers on one line, so that a difference between two fits can be read.
    text = re.sub(
        r"\[[^\[\]{}]*\]", lambda m: " ".join(m[0].split()), json.dumps(content, indent=1)
    )
    with confined.replacing(file) as new:
        new.write_text(text + "\n", encoding="utf-8")


def load_advisor(file: Path = SHIPPED) -> Advisor:
    """Read an advisor.

    Raises:
        ConfigError: If there is none, or it is not one that this version understands.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ConfigError(
                f"'{file}' was fitted by another fedfuse",
                got=f"format {content['format']}",
                allowed=f"format {FORMAT}",
                next_step=_FIT,
            )
        heads = {
            _key(name): Ridge(**{part: _array(value) for part, value in values.items()})
            for name, values in content["heads"].items()
        }
        past = {
            _key(name): Past(tuple(values["shares"]), values["fuses"], values["threshold"])
            for name, values in content["past"].items()
        }
        rounds, evaluated = int(content["rounds"]), tuple(content["evaluated"])
        return Advisor(rounds, heads, past, content["fitted"], evaluated)
    except OSError as error:
        raise ConfigError(
            f"the fitted advisor '{file}' cannot be read: {error.strerror}.", next_step=_FIT
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"'{file}' is no fitted advisor",
            got=f"{type(error).__name__}: {error}",
            next_step=_FIT,
        ) from error


def _key(name: str) -> tuple[str, str]:
    level, test = name.split("/")
    return level, test


def _known(value: Any) -> Any:
    """Return plain values, rounded; what is not a number is null, as JSON has no other word."""
    if isinstance(value, Mapping):
        return {name: _known(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_known(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.vectorize(lambda v: float(f"{v:.7g}"))(value).tolist()
    return value


def _array(value: Any) -> Any:
    if isinstance(value, list):
        is_names = bool(value) and isinstance(value[0], str)
        return tuple(value) if is_names else np.array(value, dtype=np.float64)
    return value
