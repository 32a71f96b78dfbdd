"""The figures: what is drawn where, in SVG and in PNG, for few clients and for many."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.report import theme
from experiments.report.axes import Scale, log_ticks, ticks
from experiments.report.drawing import Area, Box, Dot, Drawing, Line, Pixels, Text
from experiments.report.figure import Figure, Key, Numbers, sheet
from experiments.report.figures.curves import Series, curves
from experiments.report.figures.effectiveness import neighbour_graph, strongest, weight_matrix
from experiments.report.figures.gain_map import gain_map
from experiments.report.figures.gains import gain_strip
from experiments.report.figures.labels import label_map
from experiments.report.figures.times import time_bars
from experiments.report.raster import write_png
from experiments.report.sections import is_uniform
from experiments.report.svg import inline, standalone

RNG = np.random.default_rng(0)


def contrast(one: str, other: str) -> float:
    """Return the WCAG contrast of two colours."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_can_be_read_and_lines_can_be_seen(colours: dict[str, str]) -> None:
    for role in ("ink", "muted", "gain", "loss"):
        assert contrast(colours[role], colours["paper"]) >= 4.5, role
    for role in (*theme.SERIES, "base", "heat"):
        assert contrast(colours[role], colours["paper"]) >= 3, role


def test_both_papers_have_every_role() -> None:
    assert theme.LIGHT.keys() == theme.DARK.keys()


def test_no_two_methods_look_alike() -> None:
    looks = [theme.look(i) for i in range(24)]
    assert len(set(looks)) == 24


def test_ticks_are_round_and_inside() -> None:
    for _ in range(200):
        low = float(RNG.normal(scale=100))
        high = low + float(RNG.exponential(50)) + 1e-6
        found = ticks(low, high)
        assert all(low - 1e-6 <= tick <= high + 1e-6 for tick in found)
        assert len(found) <= 7
    assert log_ticks(3, 40) == [5.0, 10.0, 20.0]


def test_a_scale_maps_ends_to_ends() -> None:
    scale = Scale(1, 1000, 0, 300, log=True)
    assert [scale(1), scale(10), scale(1000)] == pytest.approx([0, 100, 300])


def series(values: list[list[float]], name: str = "knfu") -> Series:
    return Series(name, "s0", "", np.arange(1.0, len(values[0]) + 1), np.array(values))


def test_a_curve_is_the_mean_and_its_band_the_extremes() -> None:
    panel = curves([series([[10, 20], [30, 40]])], title="t", y_label="accuracy, %")
    (band,) = [mark for mark in panel.marks if isinstance(mark, Area)]
    (line,) = [m for m in panel.marks if isinstance(m, Line) and m.label == "knfu"]
    tops, bottoms = band.points[:2], band.points[2:][::-1]
    for (x, y), top, bottom in zip(line.points, tops, bottoms, strict=True):
        assert x == top[0] == bottom[0]
        assert y == pytest.approx((top[1] + bottom[1]) / 2)
    ends = [mark for mark in panel.marks if isinstance(mark, Dot)]
    assert (ends[-1].x, ends[-1].y) == line.points[-1]


def test_one_seed_has_no_band_and_a_gap_is_passed_over() -> None:
    panel = curves([series([[10, np.nan, 30]])], title="t", y_label="y")
    assert not [mark for mark in panel.marks if isinstance(mark, Area)]
    (line,) = [m for m in panel.marks if isinstance(m, Line) and m.label]
    assert len(line.points) == 2


@pytest.mark.parametrize("values", [[[50.0]], [[50.0, 50.0]], [[0.0, 1e6]]])
def test_curves_of_any_range_stay_on_the_panel(values: list[list[float]]) -> None:
    panel = curves([series(values)], title="t", y_label="y")
    for mark in panel.marks:
        for x, y in mark.points if isinstance(mark, Line | Area) else [(0, 0)]:
            assert 0 <= x <= panel.width
            assert 0 <= y <= panel.height


def test_stems_end_at_the_mean_gain_in_order_and_say_whose_they_are() -> None:
    gains = np.array([[0.02, -0.04, 0.0], [0.04, -0.02, 0.0]])
    panel = gain_strip(gains, [7, 8, 9], title="t")
    stems = [m for m in panel.marks if isinstance(m, Line) and m.label]
    assert [stem.label for stem in stems] == [
        "client 8: −3.0 points",
        "client 9: 0.0 points",
        "client 7: +3.0 points",
    ]
    assert [stem.colour for stem in stems] == ["loss", "base", "gain"]
    ends = [m for m in panel.marks if isinstance(m, Dot) and m.label]
    assert [end.y for end in ends] == [stem.points[1][1] for stem in stems]
    assert ends[0].y > ends[1].y > ends[2].y
    assert "1 clients above zero, 1 below" in panel.description


def test_a_client_that_one_seed_lacks_counts_with_the_others() -> None:
    panel = gain_strip(np.array([[0.02, np.nan], [0.04, np.nan]]), [0, 1], title="t")
    assert [m.label for m in panel.marks if isinstance(m, Line) and m.label] == [
        "client 0: +3.0 points"
    ]


def test_a_graph_draws_only_what_is_above_an_equal_share() -> None:
    weights = np.full((5, 5), 0.2)
    assert strongest(weights) == []
    weights[1] = [0.6, 0.1, 0.1, 0.1, 0.1]
    assert strongest(weights) == [(1, 0)]
    assert "nobody" not in str(list(neighbour_graph(weights, title="t").marks))


def test_the_matrix_shows_every_weight_of_few_clients() -> None:
    weights = np.array([[0.75, 0.25], [0.5, 0.5]])
    texts = [m.text for m in weight_matrix(weights, title="t").marks if isinstance(m, Text)]
    assert [text for text in texts if text.startswith(".")] == [".75", ".25", ".50", ".50"]
    (pixels,) = [m for m in weight_matrix(weights, title="t").marks if isinstance(m, Pixels)]
    assert pixels.values[0, 0] > pixels.values[1, 1] > pixels.values[0, 1]


def test_equal_weights_are_known_as_such() -> None:
    assert is_uniform(np.full((2, 4, 4), 0.25))
    absent = np.zeros((1, 3, 3))
    absent[0, :2, :2] = 0.5
    assert is_uniform(absent)
    assert not is_uniform(np.eye(3)[None])


def test_labels_show_shares_and_sizes() -> None:
    counts = np.array([[30, 10, 0], [0, 0, 80]])
    panel = label_map(counts, title="t")
    (pixels,) = [m for m in panel.marks if isinstance(m, Pixels)]
    np.testing.assert_allclose(pixels.values, [[0.75, 0.25, 0], [0, 0, 1]])
    told = [m.label for m in panel.marks if isinstance(m, Box) and m.label]
    assert told == ["client 0: 40 samples of 2 classes", "client 1: 80 samples of 1 classes"]


def test_bars_add_up() -> None:
    bars = {"mean": {"train": 2.0, "fuse": 1.0}, "knfu": {"train": 4.0, "odd": 2.0}}
    boxes = [m for m in time_bars(bars, title="t").marks if isinstance(m, Box)]
    ends = [max(b.x + b.width for b in boxes if b.label.startswith(name)) for name in bars]
    start = min(b.x for b in boxes)
    assert (ends[0] - start) / (ends[1] - start) == pytest.approx(0.5)


def test_a_map_hatches_what_is_not_shown_and_outlines_where_local_wins() -> None:
    gains = np.array([[0.05, -0.02], [np.nan, 0.01]])
    shown = np.array([[True, True], [False, False]])
    panel = gain_map(
        gains,
        shown,
        columns=("alpha", ["0.1", "1"]),
        rows=("samples", ["50", "200"]),
        title="t",
        strongest=0.05,
        bounds=np.array([[[0.03, 0.07], [-0.04, -0.01]], [[np.nan, np.nan], [-0.01, 0.03]]]),
    )
    written = {m.text for m in panel.marks if isinstance(m, Text)}
    assert {"[+3.0, +7.0]", "[−4.0, −1.0]", "[−1.0, +3.0]"} <= written
    told = {m.label: m for m in panel.marks if isinstance(m, Box) and m.label}
    assert set(told) == {"+5.0 points", "−2.0 points", "+1.0 points, no difference shown"}
    assert told["+5.0 points"].y > told["+1.0 points, no difference shown"].y
    assert told["+5.0 points"].opacity > told["−2.0 points"].opacity
    lost = told["−2.0 points"]
    border = [m for m in panel.marks if isinstance(m, Line) and m.colour == "loss"]
    assert len(border) == 4
    assert {x for m in border for x, _ in m.points} == {lost.x, lost.x + lost.width}
    stripes = [m for m in panel.marks if isinstance(m, Line) and m.colour == "ink"]
    unsure = told["+1.0 points, no difference shown"]
    assert stripes
    assert all(unsure.x <= x <= unsure.x + unsure.width for m in stripes for x, _ in m.points)
    assert "wins in 1 and loses in 1 of 3" in panel.description


PANELS = {
    "curves": curves([series([[1, 2], [3, 4]])], title="a", y_label="y"),
    "gains": gain_strip(RNG.normal(size=(3, 200)) / 50, range(200), title="b"),
    "labels": label_map(RNG.integers(0, 50, size=(300, 100)), title="c"),
    "matrix": weight_matrix(RNG.dirichlet(np.ones(100), size=100), title="d"),
    "graph": neighbour_graph(RNG.dirichlet(np.ones(8), size=8), title="e"),
    "time": time_bars({"knfu": {"train": 1.0}}, title="f"),
}


@pytest.mark.parametrize("name", PANELS)
def test_svg_is_well_formed_small_and_named_for_those_who_do_not_see_it(name: str) -> None:
    text = inline(PANELS[name], name)
    root = ET.fromstring(text)
    assert len(text) < 150_000
    assert root.get("role") == "img"
    named = {element.get("id"): element.text for element in root if element.get("id")}
    assert all(named[part] for part in root.get("aria-labelledby").split())
    assert set(re.findall(r"var\(--([\w]+)\)", text)) <= set(theme.LIGHT)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r'href="[^"]*"', "", text))


def test_text_in_a_drawing_is_escaped() -> None:
    bad = '</text><script>alert(1)</script>" onload="x'
    marks = (Text(0, 0, bad), Dot(0, 0, 1, "ink", label=bad), Box(0, 0, 1, 1, "ink", label=bad))
    root = ET.fromstring(inline(Drawing(9, 9, marks, bad, bad), "n"))
    assert [e.tag.split("}")[1] for e in root.iter() if "script" in e.tag] == []
    assert all("onload" not in e.attrib for e in root.iter())


def test_a_sheet_becomes_files(tmp_path: Path) -> None:
    figure = Figure(
        "all",
        "Every panel",
        "How to read it.",
        (
            *(PANELS[name] for name in ("curves", "graph", "time")),
            label_map(np.array([[3, 1], [0, 4]]), title="labels"),
            gain_strip(np.array([[0.1]]), [0], title="$x$ & <y>"),
        ),
        Numbers((), ()),
        (Key("a", "s0"), Key("b", "s1", "7 3"), Key("c", "s2", filled=True)),
    )
    drawing = sheet(figure)
    write_png(drawing, tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as picture:
        assert picture.size == (round(2 * drawing.width), round(2 * drawing.height))
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert len(colours) > 50, "the picture is empty"
    root = ET.fromstring(standalone(drawing))
    assert "prefers-color-scheme:dark" in root[0].text
