"""What counts as a number, a count, a flag and an option."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedfuse.errors import ParameterError
from fedfuse.validation import require_count, require_flag, require_number, require_one_of


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.25), np.int64(1)])
def test_numbers_pass(value: object) -> None:
    require_number("Part", "x", value, above=0, at_most=1)


@pytest.mark.parametrize("value", [0, 1.5, -1, math.nan, math.inf, 10**400, "1", None, True, [1]])
def test_what_is_no_number_in_range_fails(value: object) -> None:
    with pytest.raises(ParameterError, match="above 0 and at most 1"):
        require_number("Part", "x", value, above=0, at_most=1)


@pytest.mark.parametrize("value", [math.nan, -math.inf, False])
def test_no_range_still_means_finite(value: object) -> None:
    with pytest.raises(ParameterError, match=r"allowed: a finite number\.$"):
        require_number("Part", "x", value)


def test_a_range_may_leave_its_end_out() -> None:
    require_number("Part", "x", 0.999, at_least=0, below=1)
    with pytest.raises(ParameterError, match="at least 0 and below 1"):
        require_number("Part", "x", 1, at_least=0, below=1)


@pytest.mark.parametrize("value", [1, 7, np.int64(2)])
def test_counts_pass(value: object) -> None:
    require_count("Part", "x", value)


@pytest.mark.parametrize("value", [0, -1, 2.0, "2", None, True])
def test_what_is_no_count_fails(value: object) -> None:
    with pytest.raises(ParameterError, match="an integer of at least 1"):
        require_count("Part", "x", value)


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_what_is_no_flag_fails(value: object) -> None:
    require_flag("Part", "x", False)
    with pytest.raises(ParameterError, match="true or false"):
        require_flag("Part", "x", value)


def test_options_are_listed_and_guessed() -> None:
    require_one_of("Part", "x", "forward", ("forward", "reverse"))
    with pytest.raises(ParameterError, match=r"one of forward, reverse\. Did you mean 'reverse'\?"):
        require_one_of("Part", "x", "revrse", ("forward", "reverse"))
    with pytest.raises(ParameterError, match=r"one of forward, reverse\.$"):
        require_one_of("Part", "x", 3, ("forward", "reverse"))
