"""Which points nothing dominates."""

from __future__ import annotations

import numpy as np

from fedfuse.compare import pareto_front


def test_a_front_by_hand():
    points = np.array([[0, 0], [-1, 14], [1, 9], [1, 8], [0.5, 14], [0.5, 14], [2, np.nan]])
    #                   local   loses   best    less    two that are equal, and one unknown
    assert pareto_front(points).tolist() == [False, False, True, False, True, True, False]


def test_one_point_is_its_own_front_and_none_have_none():
    assert pareto_front(np.array([[-3.0, -4.0]])).tolist() == [True]
    assert pareto_front(np.empty((0, 2))).tolist() == []


def test_whoever_is_on_no_front_is_dominated_by_somebody_on_it():
    points = np.random.default_rng(0).normal(size=(40, 2))
    front = pareto_front(points)
    for point in points[~front]:
        assert ((points[front] >= point).all(axis=1)).any()
    best = points[front]
    assert not any((np.delete(best, i, 0) >= one).all(axis=1).any() for i, one in enumerate(best))
