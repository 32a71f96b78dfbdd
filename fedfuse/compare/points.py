"""Differences of accuracies in percentage points, written one way wherever they are written."""

from __future__ import annotations

FINEST = 6
"""Decimals at most; what they do not show of a share between 0 and 1 is rounding of floats."""


def rounded(value: float, digits: int = 1, sign: str = "+") -> str:
    """Return a number with ``digits`` decimals, and with more where these would hide its sign.

    >>> rounded(1.74), rounded(-0.04), rounded(0.003), rounded(0.0), rounded(-1e-15)
    ('+1.7', '-0.04', '+0.003', '0.0', '0.0')
    """
    for finer in range(digits, FINEST + 1):
        text = f"{value:{sign}.{finer}f}"
        if text.strip("+-0."):
            return text
    return f"{0:.{digits}f}"


def signed(share: float) -> str:
    """Return a difference of two accuracies in points with its sign.

    A bound of -0.04 points excludes 0 and must not be read as 0.0.

    >>> signed(0.0174), signed(-0.0004)
    ('+1.7', '-0.04')
    """
    return rounded(100 * share)


def unsigned(share: float) -> str:
    """Return how large a difference is, with the same decimals.

    >>> unsigned(-0.0174), unsigned(-0.0004)
    ('1.7', '0.04')
    """
    return signed(share).lstrip("+-")
