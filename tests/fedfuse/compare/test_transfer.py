"""What a curve of accuracies by round says, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fedfuse.compare import area, backward_loss, backward_transfer


def test_M5_by_hand() -> None:
    assert float(area(np.array([0.2, 0.6, 0.8]))) == pytest.approx(0.533333, abs=1e-5)
    assert float(backward_loss(np.array([0.9, 0.7, 0.8]))) == pytest.approx(0.15, abs=1e-5)
    assert float(backward_transfer(np.array([0.8, 0.7]))) == pytest.approx(-0.1, abs=1e-5)


def test_M5_a_constant_curve_is_its_value_and_loses_nothing() -> None:
    flat = np.full((4, 2), 0.6)
    np.testing.assert_allclose(area(flat), 0.6)
    np.testing.assert_array_equal(backward_loss(flat), 0)
    np.testing.assert_array_equal(backward_transfer(flat), 0)


def test_M5_what_only_gets_better_has_lost_nothing() -> None:
    assert float(backward_loss(np.array([0.2, 0.6, 0.8]))) == 0


def test_M5_rounds_that_were_not_tested_do_not_count_and_one_says_nothing_of_loss() -> None:
    nan = np.nan
    curves = np.array([[nan, 0.9, nan], [0.9, nan, nan], [nan, 0.7, 0.5], [0.7, 0.8, nan]])
    np.testing.assert_allclose(area(curves), [0.8, 0.8, 0.5])
    np.testing.assert_allclose(backward_loss(curves), [0.2, 0.15, nan])
    np.testing.assert_allclose(backward_transfer(curves), [-0.2, -0.1, 0.0])
    assert np.isnan(area(np.full((2, 1), nan))).all()
