"""The time left of a sweep counts a shared baseline where it is trained, and only there."""

from __future__ import annotations

import pytest

from experiments.config import compose
from experiments.runs import effort
from experiments.runs.effort import SweepClock


def configs(*words: str) -> list:
    found = compose.check(compose.open_hydra(), list(words), multirun=True)[1]
    return [compose.own_keys(cfg) for cfg in found]


def test_a_baseline_counts_once_per_federation() -> None:
    first, second, other = effort._works(
        configs("method=mean,knfu", "seed=0") + configs("method=knfu", "seed=1")
    )
    assert second < first
    assert other == pytest.approx(first)


def test_training_alone_has_one_arm() -> None:
    [alone], [both] = (effort._works(configs(f"method={name}")) for name in ("local", "mean"))
    assert alone < both < 3 * alone


def test_the_time_left_follows_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("experiments.runs.effort.monotonic", lambda: now)
    sweep = configs("method=local", "seed=0,1,2")
    clock = SweepClock(sweep, [0, 1, 2])
    assert clock.begin(0) == ""
    assert clock.remaining(60.0) == "; 2 more runs, about 2:00"
    now = 60.0
    clock.end()
    assert clock.begin(1) == " (about 2:00 left)"
    assert clock.remaining(60.0) == "; 1 more run, about 1:00"
    now = 120.0
    clock.begin(2)
    assert clock.remaining(60.0) == ""
