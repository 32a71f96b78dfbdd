"""The short form of ``python -m experiments.benchmarks.kills``."""

from __future__ import annotations

import pytest

from experiments.benchmarks.kills import series
from tests.thinning import few


@pytest.mark.slow
def test_kills_at_random_instants_change_nothing(tmp_path):
    kills = few(4, of=10)
    toll = series(kills, seed=1, folder=tmp_path)
    assert toll.kills >= kills
    assert toll.runs > 0
    assert toll.different == 0
