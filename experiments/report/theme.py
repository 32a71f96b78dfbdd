"""The colours of every figure, by their role, for light and for dark paper.

The series follow Okabe and Ito's palette, which the common kinds of colour blindness tell apart;
dark paper takes lighter tones of the same hues. Gain is blue and loss is orange for the same
reason, and a sign or a position always says the same as a colour does.
"""

from __future__ import annotations

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b2330",
    "muted": "#5a6575",
    "grid": "#e4e8ee",
    "axis": "#9aa5b4",
    "gain": "#0065a8",
    "loss": "#b34a00",
    "heat": "#2f7dc4",
    "base": "#6b7686",
    "s0": "#0072b2",
    "s1": "#c65a00",
    "s2": "#008560",
    "s3": "#a4508b",
    "s4": "#8a6d00",
    "s5": "#3a8fc7",
}
"""Role to colour on white paper; every text colour has a contrast of at least 4.5 : 1."""

DARK = {
    "paper": "#11161d",
    "ink": "#e7ecf3",
    "muted": "#a0acbc",
    "grid": "#27303c",
    "axis": "#5f6b7a",
    "gain": "#5cb8f2",
    "loss": "#ff9c52",
    "heat": "#4d9ee0",
    "base": "#a0acbc",
    "s0": "#5cb8f2",
    "s1": "#ff9c52",
    "s2": "#3fd0a0",
    "s3": "#e294cb",
    "s4": "#e3c341",
    "s5": "#9dd2f5",
}
"""The same roles on dark paper."""

SERIES = tuple(role for role in LIGHT if role[0] == "s" and role[1:].isdigit())
"""The roles that tell methods apart, in the order they are given out."""

DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""Strokes: with more methods than colours the next stroke begins, so that no two look alike."""


def look(number: int) -> tuple[str, str]:
    """Return the colour role and the dash of the method with this number.

    >>> look(0), look(6)
    (('s0', ''), ('s0', '7 3'))
    """
    return SERIES[number % len(SERIES)], DASHES[number // len(SERIES) % len(DASHES)]


def variables(colours: dict[str, str]) -> str:
    """Return the roles as CSS custom properties.

    >>> variables({"ink": "#000"})
    '--ink:#000;'
    """
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())
