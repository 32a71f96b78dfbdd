"""The time left counts what a run computes itself, and nothing that it was given."""

from __future__ import annotations

import pytest

from server.reporters.remaining import Remaining


def test_nothing_is_known_before_the_first_round() -> None:
    left = Remaining(("local", "knfu"), 10)
    left.begin("local", 1, 0.0)
    assert left.left(3.0) is None


def test_both_arms_count() -> None:
    left = Remaining(("local", "knfu"), 3)
    for round_, (begun, done) in enumerate([(0, 9), (9, 11)], start=1):
        left.begin("local", round_, begun)
        left.done("local", round_, done)
    # Rounds take 2 s after the first; one of local training and three of the method are left.
    assert left.left(11.0) == pytest.approx(4 * 2.0)
    left.begin("local", 3, 11.0)
    assert left.left(12.0) == pytest.approx(4 * 2.0 - 1.0)


def test_a_shared_baseline_says_nothing_about_the_time() -> None:
    """Its rounds are reported at once: they are no evidence that rounds are free."""
    left = Remaining(("local", "knfu"), 4)
    for round_ in range(1, 5):
        left.done("local", round_, 0.001 * round_)
    assert left.left(1.0) is None
    for round_, (begun, done) in enumerate([(0, 5), (5, 15)], start=1):
        left.begin("knfu", round_, begun)
        left.begin("knfu", round_, begun + 1)  # its second phase
        left.done("knfu", round_, done)
    assert left.left(15.0) == pytest.approx(2 * 10.0)


def test_a_round_that_takes_longer_than_usual_never_makes_it_negative() -> None:
    left = Remaining(("knfu",), 2)
    left.begin("knfu", 1, 0.0)
    left.done("knfu", 1, 2.0)
    left.begin("knfu", 2, 2.0)
    assert left.left(100.0) == 0.0
    left.done("knfu", 2, 100.0)
    assert left.left(100.0) == 0.0
