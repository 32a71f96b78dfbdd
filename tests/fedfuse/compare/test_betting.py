"""Bets against "not better": their wealth by hand, and how often it lies where nothing is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fedfuse.compare.betting import STAKES, averaged, mean_wealth, sign_wealth
from fedfuse.compare.binomial import at_most, clopper_pearson
from fedfuse.errors import ParameterError

ALPHA = 0.05


def test_the_wealth_after_three_discordant_answers_by_hand():
    # The integral of (1 + b)^3 from 0 to 1 is (2^4 - 1) / 4.
    assert sign_wealth(3, 0) == pytest.approx(15 / 4)
    # (1 + b)^2 (1 - b) = 1 + b - b^2 - b^3: 1 + 1/2 - 1/3 - 1/4.
    assert sign_wealth(2, 1) == pytest.approx(11 / 12)
    # (1 + b) (1 - b)^2 = 1 - b - b^2 + b^3; (1 - b)^3 has its integral in 1/4.
    assert sign_wealth(1, 2) == pytest.approx(1 - 1 / 2 - 1 / 3 + 1 / 4)
    assert sign_wealth(0, 3) == pytest.approx(1 / 4)
    # Bets of shares 1/20 to 19/20: after +1, +1, -1 the mean of (1 + b), (1 + b)^2, and so on.
    wealth = mean_wealth(np.array([1.0, 1.0, -1.0]), 0.0)
    by_hand = [
        math.fsum(p) / 19
        for p in zip(*([1 + b, (1 + b) ** 2, (1 + b) ** 2 * (1 - b)] for b in STAKES), strict=True)
    ]
    np.testing.assert_allclose(wealth, by_hand, rtol=1e-12)


def test_the_mean_wealth_is_1_where_answers_are_a_toss_up():
    """Fair odds, exactly: the mean over all sequences of n answers, for every stake."""
    for n in (1, 4, 9):
        total = math.fsum(math.comb(n, wins) * sign_wealth(wins, n - wins) for wins in range(n + 1))
        assert total / 2**n == pytest.approx(1.0, rel=1e-12)
    ends = [mean_wealth(np.array(way), 0.0)[-1] for way in itertools.product([-1.0, 1.0], repeat=6)]
    assert np.mean(ends) == pytest.approx(1.0, rel=1e-12)


def test_a_null_below_0_bets_on_less_and_never_owes():
    """Against a mean of at most -0.1: its own mean is fair, and all losses leave something."""
    fair = np.array([-1.0] * 55 + [1.0] * 45)
    draw = np.random.default_rng(0)
    ends = [mean_wealth(draw.choice(fair, 8), -0.1)[-1] for _ in range(4_000)]
    assert np.mean(ends) == pytest.approx(1.0, abs=0.1)
    assert mean_wealth(-np.ones(50), -0.1)[-1] > 0


@pytest.mark.parametrize(("wins", "losses"), [(-1, 0), (0, -1)])
def test_counts_below_0_are_refused(wins, losses):
    with pytest.raises(ParameterError, match="at least 0"):
        sign_wealth(wins, losses)


@pytest.mark.parametrize("values", [[1.1], [-1.1], [math.nan]])
def test_values_beyond_the_bounds_are_refused(values):
    with pytest.raises(ParameterError, match=r"-1\.0 to 1\.0"):
        mean_wealth(np.array(values), 0.0)


def looked_at(answers: np.ndarray) -> np.ndarray:
    """Return the largest wealth on the way, of many sequences [S, n] of -1, 0 and 1."""
    wealth = np.ones((len(answers), len(STAKES)))
    best = np.ones(len(answers))
    for values in answers.T:
        wealth *= 1 + STAKES * values[:, None]
        best = np.maximum(best, wealth.mean(axis=1))
    return best


def test_whoever_looks_after_every_answer_is_misled_in_at_most_alpha_of_the_cases():
    draw = np.random.default_rng(1)
    for discordant in (0.2, 1.0):
        there = draw.random((5_000, 100)) < discordant
        answers = np.where(there, draw.choice([-1.0, 1.0], there.shape), 0.0)
        one = mean_wealth(answers[0], 0.0).max()
        assert looked_at(answers[:1])[0] == pytest.approx(max(1.0, one))
        misled = (looked_at(answers) >= 1 / ALPHA).mean()
        assert misled <= ALPHA + 3 * math.sqrt(ALPHA / 5_000)


def rounds_of(
    draw: np.random.Generator, samples: int, rounds: int, drift: float
) -> list[tuple[int, int]]:
    """Return wins and losses of the same samples in each round; answers change with ``drift``."""
    state = draw.choice([-1, 0, 1], samples, p=[0.15, 0.7, 0.15])
    told = []
    for _ in range(rounds):
        fresh = draw.choice([-1, 0, 1], samples, p=[0.15, 0.7, 0.15])
        state = np.where(draw.random(samples) < drift, fresh, state)
        told.append((int((state == 1).sum()), int((state == -1).sum())))
    return told


def test_rounds_that_ask_the_same_samples_are_one_piece_of_evidence():
    """Averaged they mislead in at most alpha of the cases; multiplied, as if each were new, not."""
    draw = np.random.default_rng(2)
    mean, product = [], []
    for _ in range(2_000):
        wealths = [sign_wealth(*counts) for counts in rounds_of(draw, 30, 6, 0.2)]
        mean.append(averaged(wealths))
        product.append(math.prod(wealths))
    assert np.mean(np.array(mean) >= 1 / ALPHA) <= ALPHA
    assert np.mean(np.array(product) >= 1 / ALPHA) > ALPHA


def test_power_grows_with_the_answers_and_the_exact_test_has_more_at_one_look():
    draw = np.random.default_rng(3)
    found = []
    for discordant in (10, 30, 100):
        wins = draw.binomial(discordant, 0.75, 1_000)
        bets = np.mean([sign_wealth(w, discordant - w) >= 1 / ALPHA for w in wins])
        exact = np.mean([at_most(discordant - w, discordant, 0.5) <= ALPHA for w in wins])
        assert bets <= exact
        found.append(bets)
    assert found[0] < 0.3 < 0.45 < found[1] < 0.99 <= found[2]


def test_binomial_tails_equal_scipys():
    stats = pytest.importorskip("scipy.stats")
    for n, p in itertools.product((1, 7, 200, 2000), (0.0, 0.01, 0.5, 0.97, 1.0)):
        for k in (-1, 0, n // 3, n - 1, n, n + 1):
            assert at_most(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-9, abs=1e-300)
    for k, n in ((0, 10), (4, 200), (10, 200), (200, 200), (1, 1)):
        ours, theirs = clopper_pearson(k, n), stats.binomtest(k, n).proportion_ci()
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(("count", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_no_interval_without_trials(count, trials):
    with pytest.raises(ParameterError, match="clopper_pearson"):
        clopper_pearson(count, trials)
