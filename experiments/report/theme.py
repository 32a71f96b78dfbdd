"""The colours of every figure, by their role, for light and for dark paper.

The series follow Okabe and Ito's palette, which the common kinds of colour blindness tell apart;
dark paper takes lighter tones of the same hues. Every method has a stroke of its own as well, so
that lines can be told apart in print without colours. Gain is blue and loss is orange for the same
reason, and a sign or a position always says the same as a colour does. Phases have tones that no
method has, each lighter than the one before.
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
    "p0": "#33275c",
    "p1": "#6f5fae",
    "p2": "#978bca",
    "p3": "#6b4420",
    "p4": "#9c7040",
    "p5": "#8c8468",
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
    "p0": "#d9d2f7",
    "p1": "#a796e6",
    "p2": "#7867b8",
    "p3": "#e8cba6",
    "p4": "#bd935f",
    "p5": "#a39a7c",
}
"""The same roles on dark paper."""

SERIES = tuple(role for role in LIGHT if role[0] == "s" and role[1:].isdigit())
"""The roles that tell methods apart, in the order they are given out."""

PHASES = tuple(role for role in LIGHT if role[0] == "p" and role[1:].isdigit())
"""The roles that tell phases apart."""

DASHES = ("", "10 3", "2 2.5", "10 3 2 3", "18 4", "10 3 2 3 2 3")
"""Strokes: as many as colours, so that the first methods differ in both."""

ALONE = (("base", "4 3"), ("base", "1.5 2.5"), ("base", "8 2 1.5 2"))
"""Ways of training alone are grey and dashed, the plain one first."""


def look(number: int) -> tuple[str, str]:
    """Return the colour role and the dash of the method with this number.

    No two of the first 36 look alike: a colour that comes again comes with the next stroke.

    >>> look(0), look(1), look(6)
    (('s0', ''), ('s1', '10 3'), ('s0', '10 3'))
    """
    lap, place = divmod(number, len(SERIES))
    return SERIES[place], DASHES[(place + lap) % len(DASHES)]


def variables(colours: dict[str, str]) -> str:
    """Return the roles as CSS custom properties.

    >>> variables({"ink": "#000"})
    '--ink:#000;'
    """
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())
