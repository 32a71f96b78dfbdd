"""Who is tested although it rested, and whom the figures of a round are about."""

from __future__ import annotations

import pytest

from fedfuse.participation import Resting

SAMPLE = Resting("sample", 2, frozenset({1, 4}))


@pytest.mark.parametrize(
    ("resting", "due", "tested"),
    [
        (Resting(), True, [0, 1, 2, 4]),
        (Resting("all", 2), False, []),
        (SAMPLE, True, [1, 4]),
        (SAMPLE, False, []),
        (Resting("none"), True, []),
    ],
)
def test_who_is_tested(resting, due, tested):
    assert resting.among({4, 2, 0, 1}, due=due) == tested


@pytest.mark.parametrize(
    ("resting", "due", "rested", "judged"),
    [
        (Resting(), True, True, None),
        (Resting("all", 2), False, False, None),  # all took part: nobody is missing
        (Resting("all", 2), False, True, ()),  # a mean over some is no mean over all
        (SAMPLE, True, True, {1, 4}),
        (SAMPLE, True, False, {1, 4}),  # the same in every round, also where all took part
        (SAMPLE, False, True, ()),
        (Resting("none", 2), False, True, None),
    ],
)
def test_whom_the_means_are_about(resting, due, rested, judged):
    assert resting.judged(due=due, rested=rested) == judged
