"""Intervals that hold what they promise, outcomes by hand, and words that claim no more."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fedfuse.compare import (
    HARMED,
    HELPED,
    UNDECIDED,
    Flips,
    Interval,
    bootstrap,
    change,
    compare,
    flips,
    fuar,
    outcomes,
    ranking,
    ranking_over,
    verdict,
)
from fedfuse.compare.comparison import worst_decile
from fedfuse.compare.interval import student_t
from fedfuse.errors import FedfuseError

FEDERATIONS = 20
SEEDS, CLIENTS = 5, 10


# Table of the t distribution, two-sided 95% and 99%.
@pytest.mark.parametrize(
    ("df", "level", "t"),
    [(1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.95, 3.182), (10, 0.95, 2.228), (7, 0.99, 3.499)],
)
def test_student_t_equals_the_printed_table(df, level, t):
    assert student_t(df, level) == pytest.approx(t, abs=5e-4)


def test_student_t_equals_scipys():
    special = pytest.importorskip("scipy.special")
    for level in (0.5, 0.9, 0.95, 0.9999):
        for df in (*range(1, 31), 100, 1000):
            t = special.stdtrit(df, (1 + level) / 2)
            assert student_t(df, level) == pytest.approx(t, rel=1e-11)


def test_interval_of_seeds_without_client_spread_by_hand():
    # Seed means 0.02, 0.04, 0.06: error 0.02 / sqrt(3); t = 4.303.
    gains = np.repeat([[0.02], [0.04], [0.06]], 8, axis=1)
    found = bootstrap(gains, draws=20_000)
    half = 4.303 * 0.02 / math.sqrt(3)
    # The draws' shape is that of three points, so their quantiles are not quite a normal's.
    assert (found.low + found.high) / 2 == pytest.approx(0.04, abs=0.002)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.2)


def test_one_seed_has_no_interval_and_seeds_without_clients_do_not_count():
    assert bootstrap(np.full((1, 10), 0.1)) is None
    assert bootstrap(np.array([[0.1, 0.2], [np.nan, np.nan]])) is None


def test_equal_inputs_give_equal_intervals_and_client_order_does_not_matter():
    gains = np.random.default_rng(0).normal(0.02, 0.03, (4, 12))
    assert bootstrap(gains) == bootstrap(gains.copy())
    mirrored = bootstrap(-gains)
    assert mirrored.low == pytest.approx(-bootstrap(gains).high, abs=1e-12)


@pytest.mark.parametrize(
    ("seeds", "between", "within"), [(2, 0.01, 0.03), (3, 0.0, 0.03), (5, 0.02, 0.01)]
)
def test_nineteen_of_twenty_intervals_hold_the_truth(seeds, between, within):
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        gains = rng.normal(0, between, (seeds, 1)) + rng.normal(0, within, (seeds, CLIENTS))
        found = bootstrap(gains, draws=300)
        held += found.low <= 0 <= found.high
    # Three standard errors of a share of 0.95 in 400 are 0.033.
    assert held / 400 > 0.95 - 0.033
    assert held / 400 < 0.99


def _federation(rng, effect):
    """Return the test accuracies of one planted study: what fusion does to clients is known."""
    ability = rng.uniform(0.6, 0.9, (SEEDS, CLIENTS))
    luck = rng.normal(0, 0.01, (SEEDS, 1))
    tests = np.full((SEEDS, CLIENTS), 400)
    local = rng.binomial(tests, ability) / tests
    fused = rng.binomial(tests, np.clip(ability + effect + luck, 0, 1)) / tests
    return compare(fused, local, seeds=tuple(range(SEEDS)), test_sizes=tests, draws=500)


@pytest.mark.parametrize(
    ("effect", "says"), [(0.08, "beats"), (-0.08, "loses to"), (0.0, "No difference is shown")]
)
def test_verdict_is_right_where_the_truth_is_planted(effect, says):
    right = 0
    for study in range(FEDERATIONS):
        found = _federation(np.random.default_rng([7, study]), effect)
        right += says in verdict(found, "knfu")
    assert right >= 18  # 19 of 20 are expected; 17 or fewer would happen once in 13 studies


def test_clients_without_difference_are_rarely_called_either_way():
    rng = np.random.default_rng(3)
    ability = rng.uniform(0.5, 0.95, 5000)
    method, local = (rng.binomial(300, ability) / 300 for _ in range(2))
    called = outcomes(method, local, np.full(5000, 300)) != UNDECIDED
    assert 0.03 < called.mean() < 0.06


def test_outcomes_by_hand():
    # 0.90 and 0.80 of 100: shrunk to 91/102 and 81/102; error sqrt(.000963+.001634) = .0510;
    # 0.1 / 0.0510 = 1.96 just decides at 95%, 0.09 does not.
    assert outcomes(np.array([0.90]), np.array([0.80]), np.array([100]))[0] == HELPED
    assert outcomes(np.array([0.89]), np.array([0.80]), np.array([100]))[0] == UNDECIDED
    assert outcomes(np.array([0.80]), np.array([0.90]), np.array([100]))[0] == HARMED
    assert outcomes(np.array([np.nan]), np.array([0.9]), np.array([100]))[0] == UNDECIDED
    assert outcomes(np.array([1.0]), np.array([0.0]), None)[0] == UNDECIDED


def test_comparison_figures_by_hand():
    method = np.array([[0.5, 0.7, np.nan], [0.6, 0.8, 0.9]])
    local = np.array([[0.4, 0.8, 0.9], [0.5, 0.8, 0.7]])
    found = compare(method, local, seeds=(3, 4))
    assert found.mean == pytest.approx((0.0 + 0.1) / 2)
    assert found.method_mean == pytest.approx((0.6 + 2.3 / 3) / 2)
    assert found.baseline_mean == pytest.approx((0.6 + 2.0 / 3) / 2)
    assert found.worst == pytest.approx(0.55)
    assert found.baseline_worst == pytest.approx(0.45)
    assert found.lowest_gain == pytest.approx(-0.1)
    assert found.compared == 5
    assert worst_decile(np.array([0.3, 0.1, 0.2])) == pytest.approx(0.1)


def test_single_seed_claims_no_mean_and_names_the_harmed():
    method = np.array([[0.95, 0.5, 0.70]])
    local = np.array([[0.70, 0.8, 0.70]])
    found = compare(method, local, seeds=(0,), test_sizes=np.full((1, 3), 400))
    words = verdict(found, "knfu")
    assert words.startswith("With one seed there is no interval: knfu is 1.7 points below")
    assert words.endswith("It helps 1 of 3 clients and harms client 1.")
    assert not found.significant


def test_verdict_over_seeds_says_whose_client_it_means():
    method = np.tile([0.5, 0.9], (2, 1))
    local = np.tile([0.8, 0.9], (2, 1))
    found = compare(method, local, seeds=(0, 5), test_sizes=np.full((2, 2), 400))
    assert verdict(found, "knfu").endswith(
        "It helps none of 4 clients (each seed's counted) and harms client 0 of seed 0 and "
        "client 0 of seed 5."
    )


def test_sides_that_do_not_pair_up_are_refused():
    with pytest.raises(FedfuseError, match="do not pair up"):
        compare(np.ones((1, 3)), np.ones((1, 4)), seeds=(0,))
    with pytest.raises(FedfuseError, match=r"nobody in the seeds \[1\]"):
        compare(np.array([[1.0], [np.nan]]), np.ones((2, 1)), seeds=(0, 1))
    with pytest.raises(FedfuseError, match="level"):
        bootstrap(np.ones((2, 2)), level=1.0)


def test_flips_are_those_of_the_predictions_and_make_the_gain():
    rng = np.random.default_rng(3)
    sizes = np.array([13, 8, 1])
    right = [[rng.random(size) < share for size in sizes] for share in (0.8, 0.5)]
    packed = []
    for arm in right:
        bits = np.zeros((3, 2), dtype=np.uint8)
        for row, own in zip(bits, arm, strict=True):
            row[: len(np.packbits(own))] = np.packbits(own)
        packed.append(bits)
    positive, negative = flips(*packed, sizes)
    for client, (ours, theirs) in enumerate(zip(*right, strict=True)):
        assert positive[client] == (ours & ~theirs).mean()
        assert negative[client] == (theirs & ~ours).mean()
        gain = ours.mean() - theirs.mean()
        assert positive[client] - negative[client] == pytest.approx(gain)


def test_M1_fuar_is_what_is_lost_for_what_is_won():
    # Lost .02, won .03 (wrong before) and .02 (unknown before): .4.
    assert fuar(np.array(0.03 + 0.02), np.array(0.02)) == pytest.approx(0.4, abs=1e-5)
    won = np.array([[0.05, 0.1, 0.0, np.nan], [0.2, 0.0, 0.0, 0.0]])
    lost = np.array([[0.02, 0.1, 0.3, np.nan], [0.1, 0.2, 0.0, 0.0]])
    # Over clients that won something: (.4 + 1) / 2 with one seed, .5 with the other.
    assert Flips(won, lost).fuar == pytest.approx((0.7 + 0.5) / 2)


def test_M1_fuar_of_who_won_nothing_or_changed_nothing_is_no_number():
    right = np.array([[0b11010000]], dtype=np.uint8)
    forgetful = right & 0b01000000
    assert fuar(*flips(forgetful, right, np.array([4]))).tolist() == [np.inf]
    itself = flips(right, right, np.array([4]))
    assert np.isnan(fuar(*itself)).all()
    assert math.isnan(Flips(*(rates[None] for rates in itself)).fuar)


def test_flips_of_a_client_without_tests_are_unknown():
    bits = np.array([[0b10000000], [0]], dtype=np.uint8)
    positive, _ = flips(bits, bits[:, :0], np.array([1, 0]))
    assert positive[0] == 1
    assert np.isnan(positive[1])


def test_a_change_is_paired_by_seed_and_client():
    method = np.array([[0.30, 0.10, 0.20], [0.35, np.nan, 0.15], [np.nan] * 3])
    found = change(method, np.full((3, 3), 0.1))
    # A client or a seed without a value counts for nothing.
    assert found.mean == pytest.approx((0.1 + 0.15) / 2)
    assert found.baseline_mean == pytest.approx(0.1)
    assert found.interval.low < 0.1 < found.interval.high
    assert change(method[2:], np.zeros((1, 3))) is None
    assert not change(method[:1], np.zeros((1, 3))).significant  # one seed


def test_a_bound_whose_sign_rounding_would_hide_keeps_it_everywhere():
    """-0.04 points exclude 0; every place writes them as such, and noise of floats as nothing."""
    from experiments.claims.shared import spread
    from experiments.report.axes import points
    from experiments.report.verdicts import interval_of
    from experiments.summary.comparison import bounds_of
    from server.reporters.figures import points as padded

    gains = np.array([[-0.0004, -0.0052], [-0.0005, -0.0055]])
    found = replace(
        compare(gains + 0.5, np.full((2, 2), 0.5), seeds=(0, 1)),
        interval=Interval(-0.0104, -0.0004, 0.95),
    )
    assert "[-1.0, -0.04]" in verdict(found, "knfu")
    assert bounds_of(found.interval) == "[-1.0, -0.04]"
    assert spread(found.mean, found.interval).endswith("[-1.0, -0.04]")
    assert interval_of(found, found.interval).text == "[−1.0, −0.04]"
    assert (points(-0.0004), padded(-0.0004)) == ("−0.04", "-0.04")
    assert (points(1e-17), padded(-1e-17), spread(0.0, None)) == ("0.0", "  0.0", "0.0 (1 seed)")


def test_what_floats_leave_of_nothing_excludes_nothing():
    gains = np.array([[0.1, 0.2, -0.3], [0.1, 0.2, -0.3]])
    assert gains.mean() != 0
    assert not compare(gains + 0.5, np.full((2, 3), 0.5), seeds=(0, 1)).significant


def test_tests_below_fifty_samples_decide_nothing():
    method, baseline = np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    assert outcomes(method, baseline, np.array([49, 50, 50])).tolist() == [0, 1, -1]


def test_clients_with_few_tests_are_not_counted_and_that_is_said():
    method, baseline = np.array([[0.9, 0.9, 1.0]] * 2), np.array([[0.7, 0.8, 0.0]] * 2)
    found = compare(
        method, baseline, seeds=(0, 1), test_sizes=np.array([[900, 900, 2], [900, 900, 1]])
    )
    assert (found.mean, found.compared, found.num_clients) == (pytest.approx(0.15), 4, 3)
    assert found.too_small == (1, 2)
    words = verdict(found, "mean")
    assert "mean beats local training by 15.0 points" in words
    assert words.endswith("Not counted: 2 clients are tested on 1 to 2 samples, fewer than 50.")


def test_there_is_no_verdict_where_a_seed_has_small_tests_only():
    method, baseline = np.array([[0.9, 0.9]] * 2), np.array([[0.7, 0.7]] * 2)
    found = compare(method, baseline, seeds=(0, 1), test_sizes=np.array([[900, 900], [6, 6]]))
    assert (found.speaks, found.judged, found.significant) == (False, False, False)
    assert found.interval is None
    assert found.mean == pytest.approx(0.2), "the table still shows what was measured"
    assert verdict(found, "mean") == (
        "No verdict between mean and local training: 2 clients are tested on 6 samples, fewer "
        "than 50. Use a larger test set."
    )


def test_no_method_is_best_on_tests_too_small():
    small = compare(np.ones((1, 2)), np.zeros((1, 2)), seeds=(0,), test_sizes=np.full((1, 2), 9))
    large = compare(
        np.ones((1, 2)), np.full((1, 2), 0.9), seeds=(0,), test_sizes=np.full((1, 2), 90)
    )
    assert ranking({"own": {"mean": small}}).startswith("On the own the tests are too small to say")
    assert "large is best, +10.0 points" in ranking({"own": {"mean": small, "large": large}})
    assert "every test is too small" in ranking_over([{"own": {"mean": small}}] * 2)
    assert "in 0 of 1 federations" in ranking_over([{"own": {"m": small}}, {"own": {"m": large}}])


def test_unknown_test_sizes_say_nothing_of_clients():
    found = compare(np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]]), seeds=(0,))
    assert not found.judged
    assert "not on record" in verdict(found, "knfu")
    assert "None of" not in verdict(found, "knfu")


def test_the_ranking_names_the_best_and_says_whether_that_is_certain():
    local = np.full((3, 4), 0.5)
    noise = np.array([[0.0], [0.001], [-0.001]])

    def found(*gains):
        return {
            name: compare(local + gain + sign * noise, local, seeds=(0, 1, 2))
            for name, gain, sign in zip("abc", gains, (1, -1, 1), strict=False)
        }

    words = ranking({"own set": found(0.02, 0.05), "other set": found(-0.03, -0.04)})
    assert words == (
        "On the own set b is best, +5.0 points over local training and +3.0 over a, both certain; "
        "on the other set no method is above local training: a, the nearest, is 3.0 points below, "
        "which is certain."
    )
    # The lead over the next is 0 with an error, the gain over local training is certain.
    assert ranking({"x": found(0.05, 0.05)}).endswith("over b, only the first of them certain.")
    one = {"x": {"a": compare(local[:1] + 0.1, local[:1], seeds=(0,))}}
    assert ranking(one).endswith("over local training, but one seed makes nothing certain.")
    assert ranking({"x": {}}) == ""
    none = ranking_over([{"x": found(0.0, -0.03)}])
    assert none == (
        "On the x no method beats local training for certain; a comes nearest: it wins in 0 of 1 "
        "federations and loses in 0 (0.0 points in the mean)."
    )
    over = ranking_over([{"x": found(0.05, 0.01)}, {"x": found(0.05, -0.03)}])
    assert over == (
        "On the x a does best: for certain it beats local training in 2 of 2 federations and loses "
        "in 0 (+5.0 points in the mean)."
    )
