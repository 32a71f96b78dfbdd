"""How many comparisons stay certain once it is counted how many there are."""

from __future__ import annotations

import numpy as np
import pytest

from fedfuse.compare import Comparison, certain_together, compare, count_judged, holm
from fedfuse.compare.interval import p_value
from fedfuse.errors import FedfuseError


def test_holm_by_hand():
    # Smallest first: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 1 * 0.04 may not be below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_the_step_down_procedure_that_it_was_published_as():
    """Holm 1979: go down the sorted p-values as long as p(k) is at most alpha / (m - k + 1)."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.beta(0.3, 2, size=rng.integers(1, 12))
        rejected = np.zeros(len(p), dtype=bool)
        for step, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (len(p) - step):
                break
            rejected[i] = True
        assert [value <= 0.05 for value in holm(p)] == rejected.tolist()


@pytest.mark.parametrize("p", [[-0.1], [1.1], [float("nan")]])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(FedfuseError, match="numbers of 0 to 1"):
        holm(p)


def test_a_p_value_is_students_over_the_means_of_seeds():
    from scipy import stats  # more than a second, which each worker would pay

    gains = np.random.default_rng(1).normal(0.5, 1, size=(5, 8))
    gains[2, 3:] = np.nan
    expected = stats.ttest_1samp(np.nanmean(gains, axis=1), 0).pvalue
    assert p_value(gains) == pytest.approx(expected)
    assert p_value(gains[:1]) is None
    assert p_value(np.zeros((3, 2))) == 1.0
    assert p_value(np.ones((3, 2))) == 0.0


def gained(*means: float) -> Comparison:
    """Return a comparison whose seeds gained so much."""
    gains = np.repeat(np.array(means)[:, None], 4, axis=1)
    return compare(0.5 + gains, np.full(gains.shape, 0.5), seeds=tuple(range(len(means))))


def test_many_comparisons_need_more_than_one_does():
    sure, shaky = gained(0.100, 0.101, 0.099), gained(0.10, 0.08, 0.14)
    assert sure.significant
    assert shaky.significant
    assert certain_together([sure, shaky]) == [True, True]
    nothing = [gained(0.01, -0.01, 0.002) for _ in range(4)]
    assert certain_together([sure, shaky, *nothing]) == [True, False, *[False] * 4]
    # A page of one is no different from its interval; one seed is never counted.
    alone = gained(0.1)
    assert certain_together([shaky, alone]) == [True, False]
    assert count_judged([shaky, alone]) == 1


def test_what_an_interval_holds_zero_for_never_comes_back():
    rng = np.random.default_rng(2)
    for _ in range(100):
        page = [gained(*rng.normal(0.02, 0.02, size=3)) for _ in range(3)]
        kept = certain_together(page)
        assert all(one.significant for one, stays in zip(page, kept, strict=True) if stays)
