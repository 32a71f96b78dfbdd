"""The advisor on planted federations, where it is known what fusing does."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fedfuse.advise.advisor import (
    CLIENT,
    FEDERATION,
    TESTS,
    Case,
    fit_advisor,
    load_advisor,
    save_advisor,
)
from fedfuse.advise.forecast import DIFFERENCE, LEVEL, Advice, Forecast
from fedfuse.advise.probe import FEATURES, Probe, beside_federation
from fedfuse.advise.ridge import fit_ridge
from fedfuse.advise.study import leave_one_out, on_unseen
from fedfuse.errors import ConfigError, FedfuseError

OWN, BALANCED = TESTS


def planted(
    seed: int, gain: float, *, clients: int = 8, noise: float = 0.004, dataset: str = "planted"
) -> Case:
    """Return a federation in which fusing gains ``gain``, as its validation data hints.

    On the balanced test set the gain has nothing to do with what the probe shows.
    """
    rng = np.random.default_rng([seed, 7])
    own = gain + rng.normal(0, noise, clients)
    alone = rng.uniform(0.6, 0.9, clients)
    losses = rng.uniform(0.5, 1.0, clients)
    probe = Probe(
        method="knfu",
        num_classes=10,
        rounds=2,
        samples=rng.integers(40, 200, clients),
        label_classes=np.random.default_rng([seed, 8]).uniform(2, 9, clients),
        val_samples=np.full(clients, 500),
        val_accuracy=alone + own + rng.normal(0, 0.01, clients),
        val_loss=losses,
        alone_accuracy=alone,
        alone_loss=losses + rng.normal(0, 0.1, clients),
        shown={
            "epd_classes": rng.uniform(2, 9, clients),
            **{
                name: rng.uniform(0.1, 0.9, clients)
                for name in FEATURES
                if name not in ("skew", "val_gain", "val_loss_gain", "val_alone", "size", "classes")
            },
        },
    )
    unforeseen = rng.normal(0, 0.05)
    gains = {OWN: own, BALANCED: unforeseen + rng.normal(0, noise, clients)}
    return Case(probe, gains, f"federation {seed}", seed % 3, dataset, np.zeros((clients,) * 2))


GAINS = (0.08, 0.05, 0.0, -0.05, -0.08)
CASES = [planted(seed, GAINS[seed % 5]) for seed in range(45)]


@pytest.fixture(scope="module")
def advisor():
    return fit_advisor(CASES, 2, {"made": "for a test"})


@pytest.mark.parametrize(("gain", "said"), [(0.06, Advice.HELP), (-0.06, Advice.HARM)])
def test_where_fusing_must_help_or_harm_it_says_so(advisor, gain, said):
    for seed in range(100, 110):
        case = planted(seed, gain)
        assert advisor.federation(case.probe, OWN).advice is said
        clients = advisor.clients(case.probe, OWN)
        assert sum(forecast.advice is said for forecast in clients) >= 7


def test_where_fusing_makes_no_difference_it_does_not_promise_any(advisor):
    for seed in range(100, 110):
        found = advisor.federation(planted(seed, 0.0).probe, OWN)
        assert found.advice not in (Advice.HELP, Advice.HARM)
        assert abs(found.expected) < DIFFERENCE


def test_where_the_probe_says_nothing_it_names_no_outcome_and_does_not_pretend(advisor):
    scores = on_unseen([planted(seed, 0.05) for seed in range(200, 240)], advisor)
    blind = scores[FEDERATION, BALANCED]
    assert blind.answered < 0.2
    assert set(blind.beaten) != {"always", "never", "majority"}
    telling = scores[FEDERATION, OWN]
    assert telling.right["advice"].mean > 0.95
    # Always fusing is as good here, and so are clients that do not differ in labels.
    assert set(telling.beaten) == {"never", "majority", "threshold"}


@pytest.mark.parametrize(
    ("level", "test"), [(FEDERATION, OWN), (FEDERATION, BALANCED), (CLIENT, OWN)]
)
def test_intervals_hold_as_often_as_they_say(advisor, level, test):
    cases = [planted(seed, GAINS[seed % 5]) for seed in range(300, 400)]
    covered = on_unseen(cases, advisor)[level, test].covered
    assert covered.mean == pytest.approx(LEVEL, abs=0.07)


def test_probabilities_are_calibrated(advisor):
    cases = [planted(seed, GAINS[seed % 5]) for seed in range(300, 600)]
    forecasts = [advisor.federation(case.probe, BALANCED) for case in cases]
    helped = np.array([case.gains[BALANCED].mean() > DIFFERENCE for case in cases])
    said = np.array([forecast.probabilities[0] for forecast in forecasts])
    assert said.mean() == pytest.approx(helped.mean(), abs=0.08)


def test_left_out_seeds_are_forecast_by_the_others():
    scores = leave_one_out(CASES, 2)
    found = scores[FEDERATION, OWN]
    assert (found.cases, found.federations) == (45, 45)
    assert set(found.beaten) >= {"always", "never", "majority"}
    assert scores[FEDERATION, BALANCED].beaten == ()
    with pytest.raises(FedfuseError, match="seed 0 alone"):
        leave_one_out([case for case in CASES if case.fold == 0], 2)


def test_of_several_data_sets_each_is_forecast_by_the_others_and_what_differs_widens_intervals():
    shifts = {"a": 0.05, "b": 0.0, "c": -0.05, "d": 0.02}

    def moved(case: Case, name: str) -> Case:
        gains = {test: values + shifts[name] for test, values in case.gains.items()}
        return replace(case, gains=gains, dataset=name, group=f"{name} {case.group}")

    cases = [
        moved(planted(100 * n + seed, GAINS[seed % 5]), name)
        for n, name in enumerate(shifts)
        for seed in range(15)
    ]
    found = leave_one_out(cases, 2, "d")[FEDERATION, OWN]
    assert found.cases == 15
    assert found.covered.mean > 0.8
    one = [case for case in cases if case.dataset in ("a", "b")]
    assert leave_one_out(one, 2, "a")[FEDERATION, OWN].cases == 15, "by its seeds: two are too few"
    several, single = (fit_advisor(some, 2, {}) for some in (cases, cases[:15]))
    wide, narrow = (a.heads[FEDERATION, OWN].sigma for a in (several, single))
    assert wide > 2 * narrow


def test_a_probe_unlike_all_others_gets_no_advice(advisor):
    case = planted(1, 0.08)
    strange = Probe(**{**vars(case.probe), "samples": case.probe.samples * 10_000})
    found = advisor.federation(strange, OWN)
    assert found.strange == ("skew", "size")
    assert found.advice is Advice.UNSURE


def test_a_client_that_took_no_part_gets_no_forecast(advisor):
    case = planted(1, 0.08)
    shown = {name: values.copy() for name, values in case.probe.shown.items()}
    for values in shown.values():
        values[3] = np.nan
    absent = Probe(**{**vars(case.probe), "shown": shown})
    found = advisor.clients(absent, OWN)
    assert [forecast is None for forecast in found] == [client == 3 for client in range(8)]
    assert advisor.federation(absent, OWN).advice is Advice.HELP


def test_small_validation_sets_count_less():
    case = planted(1, 0.08)
    column = list(FEATURES).index("val_gain")
    few = Probe(**{**vars(case.probe), "val_samples": np.full(8, 5)})
    none = Probe(**{**vars(case.probe), "val_accuracy": np.r_[np.nan, case.probe.val_accuracy[1:]]})
    much, little = case.probe.clients()[:, column], few.clients()[:, column]
    assert little.std() == pytest.approx(much.std() * (5 / 25) / (500 / 520))
    assert little.mean() == pytest.approx(much.mean())
    assert none.clients()[0, column] == pytest.approx(none.clients()[1:, column].mean(), abs=1e-3)
    beside = beside_federation(case.probe.clients())
    assert np.allclose(beside[:, len(FEATURES) :].mean(axis=0), 0)


def test_reasons_add_up_to_the_expectation(advisor):
    probe = planted(5, 0.05).probe
    reasons = advisor.reasons(probe, OWN)
    total = advisor.heads[FEDERATION, OWN].intercept + sum(share for _, _, share in reasons)
    assert total == pytest.approx(advisor.federation(probe, OWN).expected)
    assert reasons[0][0] == "val_gain"  # what was planted


def test_saved_and_read_again_it_says_the_same(advisor, tmp_path):
    file = tmp_path / "advisor.json"
    save_advisor(advisor, file)
    again = load_advisor(file)
    probe = planted(5, 0.05).probe
    for test in TESTS:
        ours, theirs = advisor.federation(probe, test), again.federation(probe, test)
        assert theirs.expected == pytest.approx(ours.expected, abs=1e-5)
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-3)
    assert again.past == pytest.approx(advisor.past)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(ConfigError, match="another fedfuse: got format 99"):
        load_advisor(file)
    file.write_text("{}")
    with pytest.raises(ConfigError, match="no fitted advisor"):
        load_advisor(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_advisor(tmp_path / "absent.json")


def test_regression_finds_what_was_planted_and_grows_unsure_far_away():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = 0.5 + x @ np.array([1.0, -2.0, 0.0]) + rng.normal(0, 0.1, 300)
    found = fit_ridge(x, y, range(300), ("a", "b", "c"))
    slopes = found.weights / found.scale
    assert slopes == pytest.approx([1, -2, 0], abs=0.03)
    assert found.sigma == pytest.approx(0.1, rel=0.15)
    near, far = found.error(np.zeros((1, 3)))[0], found.error(np.full((1, 3), 20.0))[0]
    assert far > 1.5 * near
    assert found.strange(np.array([[0.0, 20.0, 0.0]])).tolist() == [[False, True, False]]


def test_groups_are_left_out_whole():
    rng = np.random.default_rng(0)
    # Ten witnesses of each of 8 groups say the same; alone they would look like 80.
    x = np.repeat(rng.normal(size=(8, 6)), 10, axis=0)
    y = np.repeat(rng.normal(size=8), 10)
    blind = fit_ridge(x, y, range(80), "abcdef")
    grouped = fit_ridge(x, y, np.repeat(np.arange(8), 10), "abcdef")
    assert grouped.sigma > 2 * blind.sigma


def test_too_little_is_refused():
    with pytest.raises(FedfuseError, match="got 3 federations"):
        fit_advisor(CASES[:3], 2, {})
    with pytest.raises(FedfuseError, match="one group"):
        fit_ridge(np.zeros((8, 1)), np.zeros(8), [0] * 8, ("a",))
    with pytest.raises(FedfuseError, match="not a finite number"):
        fit_ridge(np.full((8, 1), np.nan), np.zeros(8), range(8), ("a",))


def test_of_one_seed_it_learns_from_federation_to_federation():
    alike = [replace(case, fold=0) for case in CASES]
    assert fit_advisor(alike, 2, {}).federation(CASES[0].probe, OWN).advice is Advice.HELP


def test_a_forecast_names_an_outcome_only_if_it_is_likely():
    assert Forecast(0.05, 0.01).advice is Advice.HELP
    assert Forecast(0.0, 0.005).advice is Advice.NONE
    assert Forecast(-0.05, 0.01).advice is Advice.HARM
    assert Forecast(0.005, 0.05).advice is Advice.UNSURE
    assert Forecast(0.05, 0.01, ("size",)).advice is Advice.UNSURE
    assert sum(Forecast(0.013, 0.02).probabilities) == pytest.approx(1)
    low, high = Forecast(0.02, 0.01).interval
    assert (low + high) / 2 == pytest.approx(0.02)
