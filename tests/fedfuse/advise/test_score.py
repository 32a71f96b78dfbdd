"""Scores of advice, on numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.advise.scoreboard import conclusion
from fedfuse.advise.forecast import Forecast
from fedfuse.advise.score import POLICIES, Past, score

SURE = 0.001
PAST = Past((0.5, 0.25, 0.25), fuses=True)


def scored(gains, forecasts, groups=None, validated=None):
    groups = range(len(gains)) if groups is None else groups
    validated = [True] * len(gains) if validated is None else validated
    never = [False] * len(gains)
    others = {"validation": validated, "fedcollab": never, "threshold": never}
    return score(np.array(gains), forecasts, [PAST] * len(gains), others, groups)


def test_by_hand():
    gains = [0.04, -0.02, 0.0, 0.02]
    forecasts = [Forecast(0.05, SURE), Forecast(0.03, SURE), Forecast(0.0, SURE), Forecast(0, 0.9)]
    found = scored(gains, forecasts, validated=[True, False, False, False])
    assert found.regret["validation"].mean == pytest.approx(0.02 / 4)
    assert found.regret["fedcollab"].mean == pytest.approx(0.06 / 4)  # here it never fuses
    assert found.side["validation"].mean == 0.75
    assert found.right["validation"].mean == pytest.approx(2 / 3)
    assert found.outcomes == (0.5, 0.25, 0.25)
    assert found.answered == 0.75  # the last is unsure
    assert found.right["advice"].mean == pytest.approx(2 / 3)  # wrong on the second
    assert found.right["always"].mean == pytest.approx(1 / 3)
    assert found.right["never"].mean == pytest.approx(1 / 3)
    # Fuses the first two; the third gains nothing either way, the fourth it leaves alone.
    assert found.regret["advice"].mean == pytest.approx((0.02 + 0.02) / 4)
    assert found.regret["always"].mean == pytest.approx(0.02 / 4)
    assert found.regret["never"].mean == pytest.approx(0.06 / 4)
    assert found.better["never"].mean == pytest.approx(0.02 / 4)
    assert found.better["majority"].mean == pytest.approx(-0.02 / 4)
    assert found.side["advice"].mean == 0.5
    assert found.brier_majority.mean == pytest.approx(
        (2 * (0.25 + 2 / 16) + 2 * (0.25 + 1 / 16 + 9 / 16)) / 4
    )


def test_perfect_advice_regrets_nothing_and_beats_all_for_certain():
    gains = [0.05, -0.05] * 20
    found = scored(gains, [Forecast(gain, SURE) for gain in gains])
    assert found.regret["advice"].mean == 0
    assert set(found.beaten) == set(POLICIES) - {"advice"}
    assert found.brier.mean == pytest.approx(0, abs=1e-9)
    assert conclusion(found) == (
        "Following advice cost less than always fusing, never fusing, the majority, the probe's "
        "validation alone, FedCollab's coalitions and a threshold of size times heterogeneity "
        "(95%)."
    )


def test_reversed_advice_is_shown_to_cost_more():
    gains = [0.05, -0.05] * 20
    found = scored(gains, [Forecast(-gain, SURE) for gain in gains])
    assert found.beaten == ()
    assert conclusion(found).startswith(
        "Following advice cost more than always fusing, never fusing"
    )


def test_advice_that_knows_nothing_shows_no_difference():
    rng = np.random.default_rng(0)
    gains = rng.normal(0, 0.03, 60)
    found = scored(gains, [Forecast(float(guess), 0.03) for guess in rng.normal(0, 0.03, 60)])
    assert found.beaten == ()
    assert "o difference from" in conclusion(found)


def test_intervals_are_over_federations():
    gains = np.repeat(np.random.default_rng(0).normal(0, 0.03, 10), 20)
    forecasts = [Forecast(0.01, 0.03)] * 200
    alike = scored(gains, forecasts, np.repeat(np.arange(10), 20)).regret["always"]
    single = scored(gains, forecasts).regret["always"]
    assert alike.mean == pytest.approx(single.mean)
    assert alike.high - alike.low > 3 * (single.high - single.low)


def test_a_strange_probe_does_as_the_majority():
    found = scored([-0.02], [Forecast(-0.5, SURE, ("size",))])
    assert found.answered == 0
    assert np.isnan(found.right["advice"].mean)
    assert found.regret["advice"].mean == found.regret["majority"].mean == pytest.approx(0.02)
    assert "no interval" in conclusion(found)
