"""What a check says when a part breaks its contract."""

from __future__ import annotations


class CheckFailed(AssertionError):  # noqa: N818 (a verdict on a part, not an error of fedfuse)
    """A part broke a contract: which one, on what input, and what was expected.

    Args:
        what: The broken promise in one sentence, naming the part.
        given: The input in words, enough to repeat it.
        got: What the part did.
        expected: What it should have done.

    >>> print(CheckFailed("f is wrong", given="x=1", got="2", expected="1"))
    f is wrong
      given:    x=1
      got:      2
      expected: 1
    """

    def __init__(self, what: str, *, given: str, got: str, expected: str) -> None:
        self.what = what
        self.given = given
        self.got = got
        self.expected = expected
        super().__init__(f"{what}\n  given:    {given}\n  got:      {got}\n  expected: {expected}")


def expect_that(ok: bool, what: str, *, given: str, got: str, expected: str) -> None:
    """Raise CheckFailed unless ``ok``."""
    if not ok:
        raise CheckFailed(what, given=given, got=got, expected=expected)
