"""Every way of training alone is known in one place, and methods are compared with each."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.results import (
    TESTS,
    Moment,
    RunGroup,
    compared,
    comparisons,
    controls,
    entrants,
    load,
    read_run,
    run_groups,
    to_tell,
)
from fedfuse.compare import ADJUSTED, LOCAL, POST_HOC, Answer
from tests.experiments.three_arms import ARMS, write

PLAIN = {"local": ARMS["local"], "knfu": (0.82, 0.7)}


def only_group(folder: Path) -> RunGroup:
    (found,) = run_groups(load(folder).runs)
    return found


def test_a_run_says_which_controls_it_has_plain_first(tmp_path: Path) -> None:
    assert list(read_run(write(tmp_path / "three")).controls) == [LOCAL, ADJUSTED]
    assert list(read_run(write(tmp_path / "two", PLAIN)).controls) == [LOCAL]
    assert read_run(write(tmp_path / "one", {"local": ARMS["local"]})).controls == {}


def test_a_method_is_compared_with_each_control_of_its_own_run(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"s{seed}", seed=seed)
    group = only_group(tmp_path)
    assert controls(group) == (LOCAL, ADJUSTED)
    assert list(entrants(group)) == [LOCAL, POST_HOC, ADJUSTED, "knfu_adjusted"]
    for moment in Moment:
        gain = comparisons(group, "accuracy_global", moment)
        assert list(gain) == [POST_HOC, ADJUSTED, "knfu_adjusted"]
        # The middle seed of three lifts whatever is adjusted by 0.2 points.
        assert gain["knfu_adjusted"].mean == pytest.approx(0.25 + 0.002 / 3)
        assert gain[ADJUSTED].mean == pytest.approx(0.12 + 0.002 / 3)
        assert gain[POST_HOC].mean == pytest.approx(0.08)
        lead = comparisons(group, "accuracy_global", moment, over=ADJUSTED)
        assert list(lead) == ["knfu_adjusted"]  # ways of training alone only over the plain one
        assert lead["knfu_adjusted"].mean == pytest.approx(0.13)
        assert lead["knfu_adjusted"].baseline_mean == pytest.approx(0.64 + 0.002 / 3)
    assert POST_HOC not in comparisons(group, "accuracy_own")  # at home it is local training


def test_answers_that_flip_are_those_over_the_control(tmp_path: Path) -> None:
    write(tmp_path / "run")
    group = only_group(tmp_path)
    over = {name: comparisons(group, "accuracy_global", over=name) for name in (LOCAL, ADJUSTED)}
    assert over[LOCAL]["knfu_adjusted"].flips.newly_right == pytest.approx(0.25)
    assert over[ADJUSTED]["knfu_adjusted"].flips.newly_right == pytest.approx(0.13)
    assert over[LOCAL][POST_HOC].flips is None  # its single answers are on no record


def test_a_method_without_the_arm_is_compared_with_the_line_ups_control(tmp_path: Path) -> None:
    """Also with one that is an arm of another method's run, and only on the seeds that it has."""
    for seed in range(2):
        write(tmp_path / f"plain{seed}", PLAIN, seed=seed)
    assert controls(only_group(tmp_path)) == (LOCAL,)
    write(tmp_path / "adjusted", seed=0)
    lead = comparisons(only_group(tmp_path), "accuracy_own", over=ADJUSTED)
    assert lead["knfu"].seeds == (0,)
    assert lead["knfu"].mean == pytest.approx(0.82 - 0.79)
    alone = {"local": ARMS["local"], "local_adjusted": (0.78, 0.6)}
    write(tmp_path / "alone", alone, seed=1)
    found = comparisons(only_group(tmp_path), "accuracy_own", over=ADJUSTED)
    # A run of the control itself is one of the line-up's; a method's own arm still comes first.
    assert found["knfu"].seeds == (1,)
    assert found["knfu"].mean == pytest.approx(0.82 - 0.78 - 0.002)
    assert found["knfu_adjusted"].mean == pytest.approx(0.84 - 0.79)


def test_what_a_prior_is_corrected_by_does_not_part_federations(tmp_path: Path) -> None:
    plain = "local_loss: {_target_: fedfuse.local_loss.CrossEntropy}\nevaluation: {prior: none}\n"
    write(tmp_path / "plain", PLAIN, config=plain)
    loss = "local_loss: {_target_: fedfuse.local_loss.BalancedSoftmax}\nevaluation: {prior: add}\n"
    write(tmp_path / "adjusted", config=loss)
    assert set(only_group(tmp_path).methods) == {"knfu", "knfu_adjusted"}


def test_controls_of_several_priors_say_by_which(tmp_path: Path) -> None:
    for tau, balanced in ((0.5, 0.6), (1.0, 0.62)):
        write(tmp_path / f"t{tau}", ARMS | {ADJUSTED: (0.79, balanced)}, tau=tau)
    group = only_group(tmp_path)
    gain = comparisons(group, "accuracy_global")
    assert gain["local_adjusted (tau 0.5, floor 0.5)"].mean == pytest.approx(0.1)
    assert gain["local_adjusted (tau 1.0, floor 0.5)"].mean == pytest.approx(0.12)
    lead = comparisons(group, "accuracy_global", over=ADJUSTED)
    assert lead["knfu_adjusted (tau 0.5)"].mean == pytest.approx(0.15)
    assert lead["knfu_adjusted (tau 1.0)"].mean == pytest.approx(0.13)


def test_everything_that_is_told_names_its_control(tmp_path: Path) -> None:
    for seed in range(4):
        write(tmp_path / f"s{seed}", seed=seed)
    done = compared(only_group(tmp_path))
    assert [(item.method, item.test, item.over) for item in done] == [
        (POST_HOC, "accuracy_global", LOCAL),
        *((ADJUSTED, test, LOCAL) for test in TESTS),
        *(("knfu_adjusted", test, over) for test in TESTS for over in (LOCAL, ADJUSTED)),
    ]
    assert [item.alone for item in done] == [True] * 3 + [False] * 4
    told = to_tell(done)
    assert [(item.method, item.test) for item in told] == [("knfu_adjusted", t) for t in TESTS]
    own, balanced = (item.decision for item in told)
    assert own.answer is balanced.answer is Answer.FUSE
    assert balanced.prior.mean == pytest.approx(0.121)
    assert "Prior correction alone brings +12.1 points" in told[1].sentence()


def test_a_run_without_the_prior_is_told_of_as_ever(tmp_path: Path) -> None:
    write(tmp_path / "plain", PLAIN)
    group = only_group(tmp_path)
    assert list(entrants(group)) == [LOCAL, "knfu"]
    assert comparisons(group, "accuracy_own", over=ADJUSTED) == {}
    done = compared(group)
    assert [(item.method, item.over, item.decision) for item in done] == [("knfu", LOCAL, None)] * 2
    assert done[0].sentence().startswith("With one seed there is no interval: knfu is 2.0 points")
