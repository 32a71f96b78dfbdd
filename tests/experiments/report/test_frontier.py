"""The figure of both gains: what is drawn where, and that names stay readable."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from experiments.report.drawing import Area, Box, Dot, Drawing, Line, Text, text_width
from experiments.report.figures.beside import Rectangle, place_names
from experiments.report.figures.frontier import Place, frontier
from experiments.report.frontiers import frontier_figure
from experiments.report.theme import ALONE, look
from experiments.results import Compared
from fedfuse.compare import compare

LOCAL_PLACE = Place("local", "base", 0.0, 0.0, alone=True)
WON = Place("won", "s0", 0.01, 0.18, (0.004, 0.016), (0.15, 0.21))
LOST = Place("lost", "s1", -0.02, 0.14, (-0.03, -0.01), (0.1, 0.18))
CORRECTED = Place("local_adjusted", "s2", 0.0, 0.05, alone=True)


def panel() -> Drawing:
    return frontier([LOCAL_PLACE, WON, LOST, CORRECTED], title="t", width=480)


def test_a_point_lies_where_its_gains_are_and_its_bars_end_where_its_intervals_do() -> None:
    marks = panel().marks
    won, lost = (
        next(m for m in marks if isinstance(m, Dot) and m.colour == c) for c in ("s0", "s1")
    )
    assert won.x > lost.x
    assert won.y < lost.y  # upwards
    across, up = (m for m in marks if isinstance(m, Line) and m.colour == "s0")
    assert {y for _, y in across.points} == {won.y}
    assert {x for x, _ in up.points} == {won.x}
    (left, _), (right, _) = across.points
    assert (won.x - left) == pytest.approx(right - won.x)
    # A point of the own gain is as wide for the interval as between the methods.
    assert (right - left) / 1.2 == pytest.approx((won.x - lost.x) / 3)


def test_training_alone_is_a_square_and_local_stands_on_the_zero_lines() -> None:
    marks = panel().marks
    squares = [m for m in marks if isinstance(m, Box) and m.label]
    assert [m.label.split(":")[0] for m in squares] == ["local", "local_adjusted"]
    zeros = [m for m in marks if isinstance(m, Line) and m.width == 1.4]
    level, upright = zeros
    assert level.points[0][1] == level.points[1][1] == squares[0].y + 5
    assert upright.points[0][0] == upright.points[1][0] == squares[0].x + 5


def test_the_front_runs_through_what_nothing_beats_and_only_that_is_bold() -> None:
    marks = panel().marks
    (front,) = [m for m in marks if isinstance(m, Line) and m.width == 5.0]
    won = next(m for m in marks if isinstance(m, Dot) and m.colour == "s0")
    assert (won.x, won.y) in front.points
    strong = {m.text for m in marks if isinstance(m, Text) and m.bold}
    assert strong == {"t", "won"}
    # It falls from the left edge to the lower one, in steps.
    xs, ys = zip(*front.points, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)
    assert panel().description.endswith("On the Pareto front: won.")


@pytest.mark.parametrize("seed", range(8))
def test_names_of_a_crowd_neither_cover_each_other_nor_leave_the_panel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [(float(x), float(y)) for x, y in rng.normal((240, 150), (60, 30), size=(12, 2))]
    widths = [text_width(name) for name in ("knfu", "mean_adjusted", "selective_fd") * 4]
    frame = Rectangle(52, 56, 466, 300)
    places = [place for place, _ in place_names(points, widths, frame)]
    for place, width in zip(places, widths, strict=True):
        assert place.outside(frame) == pytest.approx(0)
        assert place.right - place.left == pytest.approx(width)
    for one, other in combinations(places, 2):
        assert one.overlap(other) == 0


def test_everything_stays_on_the_panel_whatever_the_gains() -> None:
    huge = Place("huge", "s0", -0.9, 0.9, (-0.99, -0.8), (0.7, 0.99))
    for places in ([LOCAL_PLACE], [LOCAL_PLACE, huge], [LOCAL_PLACE, WON, huge]):
        drawn = frontier(places, title="t", width=300)
        for mark in drawn.marks:
            ends = mark.points if isinstance(mark, Line | Area) else [(mark.x, mark.y)]
            for x, y in ends:
                assert 0 <= x <= drawn.width
                assert 0 <= y <= drawn.height


def items(federation: str, **methods: tuple[float, float]) -> list[Compared]:
    """Return what a report compares: methods that gain so much on both tests."""
    found = []
    for name, gains in methods.items():
        for test, gain in zip(("accuracy_own", "accuracy_global"), gains, strict=True):
            base = np.full((3, 4), 0.5)
            noise = np.array([[0.0], [0.01], [-0.01]])
            one = compare(base + gain + noise, base, seeds=(0, 1, 2))
            found.append(Compared(federation, name, test, one))
    return found


def test_a_report_has_a_panel_for_every_federation_with_two_methods() -> None:
    style = {"local": ALONE[0], "mean": look(0), "knfu": look(1)}
    crowd = items("alpha 0.5", mean=(-0.02, 0.14), knfu=(0.01, 0.12))
    alone = items("alpha 5", mean=(0.01, 0.1))
    figure = frontier_figure([crowd, alone], style)
    assert figure is not None
    assert [drawing.title for drawing in figure.panels] == ["alpha 0.5"]
    rows = {row[1]: row for row in figure.numbers.rows}
    assert list(rows) == ["local", "mean", "knfu"]
    assert rows["local"][2] == rows["local"][5] == 0.0
    assert [row[-1] for row in rows.values()] == [False, True, True]
    assert rows["mean"][2] == pytest.approx(-0.02)
    assert rows["mean"][3] < -0.02 < rows["mean"][4]
    assert frontier_figure([alone], style) is None
