"""Fuse, train alone, or train alone with prior correction."""

from __future__ import annotations

import numpy as np
import pytest

from fedfuse.compare import Answer, Comparison, Decision, compare

SHAKE = np.array([[0.001], [-0.001], [0.0]])
SIZES = np.full((3, 4), 500)


def over(gain: float, *, certain: bool = True, seeds: int = 3, tests: int = 500) -> Comparison:
    """Return a comparison with a mean gain whose interval excludes 0, or does not."""
    base = np.full((3, 4), 0.5)
    shake = SHAKE if certain else 200 * SHAKE
    return compare(
        (base + gain + shake)[:seeds],
        base[:seeds],
        seeds=tuple(range(seeds)),
        test_sizes=np.full((seeds, 4), tests),
    )


UP, DOWN, SAME = over(0.1), over(-0.1), over(0.05, certain=False)


@pytest.mark.parametrize(
    ("gain", "lead", "prior", "answer"),
    [
        (UP, UP, SAME, Answer.FUSE),
        (UP, UP, UP, Answer.FUSE),
        (SAME, UP, UP, Answer.FUSE),
        (UP, SAME, UP, Answer.CORRECT),  # all that is shown of the gain is the prior's
        (UP, DOWN, UP, Answer.CORRECT),
        (DOWN, DOWN, UP, Answer.CORRECT),
        (UP, SAME, SAME, Answer.OPEN),
        (SAME, SAME, SAME, Answer.ALONE),
        (DOWN, DOWN, SAME, Answer.ALONE),
        (SAME, UP, DOWN, Answer.ALONE),  # better than a control that is itself worse than nothing
    ],
)
def test_what_costs_more_must_be_shown_to_be_better(
    gain: Comparison, lead: Comparison, prior: Comparison, answer: Answer
) -> None:
    found = Decision("knfu", gain, lead, prior)
    assert found.answer is answer
    assert found.certain
    assert found.sentence().startswith(answer[0].upper() + answer[1:] + ". ")


def test_the_sentence_gives_both_gains_with_intervals_and_the_priors_part() -> None:
    text = Decision("knfu", over(0.18), over(0.08), over(0.1)).sentence()
    assert "knfu beats local training by 18.0 points on average [+" in text
    assert "knfu beats prior-corrected local training by 8.0 points on average [+" in text
    assert "Prior correction alone brings +10.0 points [+" in text
    assert text.endswith("] of the +18.0: most of the gain.")
    small = Decision("knfu", over(0.18), over(0.15), over(0.03)).sentence()
    assert small.endswith("] of the +18.0.")
    none = Decision("knfu", over(0.02), over(-0.03), over(0.05)).sentence()
    assert none.endswith("], no less than the method.")
    worse = Decision("knfu", over(0.02), over(0.05), over(-0.03)).sentence()
    assert "Prior correction alone brings -3.0 points [" in worse


def test_one_seed_decides_by_its_means_and_says_so() -> None:
    gains = [over(gain, seeds=1) for gain in (0.18, 0.05, 0.13)]
    found = Decision("knfu", *gains)
    assert found.answer is Answer.FUSE
    assert not found.certain
    text = found.sentence()
    assert text.startswith("Fuse, by the means alone: one seed has no interval. knfu is 18.")
    assert text.count("interval") == 1
    level = Decision("knfu", *(over(gain - 0.001, seeds=1) for gain in (0.13, 0.0, 0.13)))
    assert level.answer is Answer.CORRECT


def test_tests_that_are_too_small_give_no_answer() -> None:
    found = Decision("knfu", UP, over(0.1, tests=20), UP)
    assert found.answer is Answer.SILENT
    assert found.sentence().startswith("No answer. ")
    assert "Prior correction" not in found.sentence()
