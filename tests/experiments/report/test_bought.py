"""The figure of what bytes buy: what is drawn where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.report.drawing import Dot, Line, Text
from experiments.report.figures.bought import Bought, beside, bought

FEW = Bought("few", "base", 3000.0, 0.03, (0.02, 0.04), reference=True)
ALL = Bought("all", "base", 6000.0, 0.05, (0.04, 0.06), reference=True)
ASKED = Bought("asked", "s0", 3300.0, 0.045, (0.035, 0.055))


def test_dots_lie_where_bytes_and_gains_are_and_the_line_runs_through_the_references() -> None:
    marks = bought([ALL, ASKED, FEW], title="t", width=480).marks
    everybody, asked, few = (m for m in marks if isinstance(m, Dot))
    (line,) = [m for m in marks if isinstance(m, Line) and m.width == 5.0]
    assert line.points == ((few.x, few.y), (everybody.x, everybody.y))
    # Bytes and points keep their proportions.
    assert (asked.x - few.x) / (everybody.x - few.x) == pytest.approx(0.1)
    assert (few.y - asked.y) / (few.y - everybody.y) == pytest.approx(0.75)
    bar = next(m for m in marks if isinstance(m, Line) and m.colour == "s0")
    (x, low), (other, high) = bar.points
    assert x == other == asked.x
    assert low - asked.y == pytest.approx(asked.y - high)
    assert {m.text for m in marks if isinstance(m, Text) and m.bold} == {"t", "few", "all"}


@pytest.mark.parametrize(("lift", "drawn"), [(-0.02, 1), (0.5, 0)])
def test_local_training_is_in_view_unless_it_is_far_away(lift: float, drawn: int) -> None:
    places = [
        Bought(one.label, one.colour, one.sent, one.gain + lift, None) for one in (FEW, ALL, ASKED)
    ]
    zeros = [m for m in bought(places, title="t").marks if isinstance(m, Line) and m.width == 1.4]
    assert len(zeros) == drawn


def test_one_method_with_one_seed_is_a_dot_and_says_its_numbers() -> None:
    drawing = bought([Bought("mean", "s0", 20_000.0, -0.012)], title="t")
    assert [m.label for m in drawing.marks if isinstance(m, Dot)] == ["mean: 20 kB, −1.2"]


def test_methods_that_send_the_same_stand_beside_each_other_in_their_order() -> None:
    assert beside([50.0, 50.0, 50.0], least=10) == [40.0, 50.0, 60.0]
    assert beside([0.0, 100.0, 4.0], least=10) == [-3.0, 100.0, 7.0]
    # A group that grows into the next takes it in.
    assert beside([50.0, 50.0, 50.0, 62.0], least=10) == pytest.approx([38.0, 48.0, 58.0, 68.0])
    dots = [
        m
        for m in bought([FEW, ALL, ASKED, replace(ASKED, label="b")], title="t").marks
        if isinstance(m, Dot)
    ]
    assert dots[3].x - dots[2].x == pytest.approx(13)
