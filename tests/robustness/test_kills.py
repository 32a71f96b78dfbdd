"""The short form of ``python -m experiments.benchmarks.kills``."""

from __future__ import annotations

import pytest

from experiments.benchmarks.kills import series


@pytest.mark.slow
def test_ten_kills_at_random_instants_change_nothing(tmp_path):
    toll = series(10, seed=1, folder=tmp_path)
    assert toll.kills >= 10
    assert toll.runs > 0
    assert toll.different == 0
