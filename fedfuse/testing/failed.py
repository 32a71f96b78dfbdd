"""What a check says when a part breaks its contract."""

from __future__ import annotations


class CheckFailed(AssertionError):  # noqa: N818 (a verdict on a part, not an error of fedfuse)
    """A part broke a contract: which one, on what input, and what was expected.

    Args:
        what: The broken promise in one sentence, naming the part.
        given: The input in words, enough to repeat it; None where it does not matter.
        got: What the part did, if ``what`` does not say it.
        expected: What it should have done, likewise.

    >>> print(CheckFailed("f is wrong", given="x=1", got="2", expected="1"))
    f is wrong
      given:    x=1
      got:      2
      expected: 1
    """

    def __init__(
        self,
        what: str,
        *,
        given: str | None = None,
        got: str | None = None,
        expected: str | None = None,
    ) -> None:
        self.what = what
        self.given = given
        self.got = got
        self.expected = expected
        details = {"given": given, "got": got, "expected": expected}
        lines = [f"  {f'{name}:':10}{text}" for name, text in details.items() if text is not None]
        super().__init__("\n".join([what, *lines]))


def expect_that(ok: bool, what: str, *, given: str, got: str, expected: str) -> None:
    """Raise CheckFailed unless ``ok``."""
    if not ok:
        raise CheckFailed(what, given=given, got=got, expected=expected)
