"""The figures: what is drawn where, in SVG and in PNG, for few clients and for many."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.report import theme
from experiments.report.axes import Scale, ticks
from experiments.report.drawing import Area, Box, Dot, Drawing, Line, Pixels, Text
from experiments.report.figure import Figure, Key, Numbers, sheet
from experiments.report.figures.curves import Series, curves
from experiments.report.figures.effectiveness import (
    class_map,
    neighbour_graph,
    strongest,
    weight_matrix,
)
from experiments.report.figures.forest import Row, forest
from experiments.report.figures.gain_map import gain_map
from experiments.report.figures.gains import gain_strip
from experiments.report.figures.labels import label_map
from experiments.report.figures.times import phase_colours, time_bars
from experiments.report.heard import is_uniform
from experiments.report.layout import font_size, inches, paper
from experiments.report.raster import write_pdf, write_png
from experiments.report.svg import inline, standalone
from fedfuse.compare import HARMED, HELPED, UNDECIDED
from fedfuse.errors import ConfigError

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


def stems_of(panel: Drawing) -> list[Line]:
    return [m for m in panel.marks if isinstance(m, Line) and m.label]


def test_every_client_of_every_seed_has_a_stem_and_none_is_averaged() -> None:
    """Client 0 of two seeds is two clients: +6 and -6 points must not become nothing."""
    gains = np.array([[0.06, 0.01], [-0.06, np.nan]])
    outcomes = np.array([[HELPED, UNDECIDED], [HARMED, UNDECIDED]])
    panel = gain_strip(gains, outcomes, title="t", seeds=(3, 5))
    assert [stem.label for stem in stems_of(panel)] == [
        "client 0 of seed 5: −6.0 points",
        "client 1 of seed 3: +1.0 points, within its test's error",
        "client 0 of seed 3: +6.0 points",
    ]
    assert [stem.colour for stem in stems_of(panel)] == ["loss", "base", "gain"]
    ends = [m for m in panel.marks if isinstance(m, Dot) and m.label]
    assert [end.y for end in ends] == [stem.points[1][1] for stem in stems_of(panel)]
    assert ends[0].y > ends[1].y > ends[2].y
    assert "of 3 clients 1 gained and 1 lost beyond the error" in panel.description


def test_thousands_of_clients_make_a_bounded_picture() -> None:
    gains = RNG.normal(size=(20, 1000)) / 50
    panel = gain_strip(gains, np.zeros(gains.shape, int), title="t", seeds=range(20))
    assert len(stems_of(panel)) == 400
    assert "of 20000 clients" in panel.description


def test_a_forest_shows_gains_with_their_intervals_and_which_are_certain() -> None:
    rows = [
        Row("low", "s0", "", -0.01, (-0.02, 0.0004), certain=False),
        Row("high", "s1", "7 3", 0.05, (0.03, 0.07), certain=True),
        Row("alone", "s2", "2 3", 0.02, None, certain=False),
    ]
    panel = forest(rows, title="t", width=480)
    texts = [m for m in panel.marks if isinstance(m, Text)]
    order = [m.text for m in texts if m.text in ("low", "high", "alone")]
    assert order == ["high", "alone", "low"]
    written = {m.text: m.bold for m in texts}
    assert written["+5.0 [+3.0, +7.0]"]
    assert not written["−1.0 [−2.0, +0.04]"]
    assert "+2.0 (one seed)" in written
    whiskers = {m.colour: m for m in panel.marks if isinstance(m, Line) and m.label}
    assert set(whiskers) == {"s0", "s1"}
    assert whiskers["s1"].dash == "7 3"
    hollow = [m for m in panel.marks if isinstance(m, Dot) and m.colour == "paper"]
    assert len(hollow) == 2
    # One scale: five points are as long above zero as the interval's four points are wide.
    (zero,) = [m for m in panel.marks if isinstance(m, Line) and m.colour == "ink"]
    dot = next(m for m in panel.marks if isinstance(m, Dot) and m.colour == "s1")
    (low, _), (high, _) = whiskers["s1"].points
    assert (dot.x - zero.points[0][0]) / 5 == pytest.approx((high - low) / 4)


def test_long_names_stand_above_their_intervals_and_are_whole() -> None:
    names = ["knfu, num_clients 5, partitioner.alpha 0.1", "b"]
    rows = [Row(name, "s0", "", 0.01, (-0.01, 0.03), certain=False) for name in names]
    panel = forest(rows, title="t", width=352)
    lines = {m.text: m for m in panel.marks if isinstance(m, Text) and m.text in names}
    assert set(lines) == set(names)
    dots = sorted(m.y for m in panel.marks if isinstance(m, Dot) and m.label)
    assert [line.y < dot for line, dot in zip(lines.values(), dots, strict=True)] == [True, True]


def test_labels_have_one_scale_everywhere() -> None:
    """A client with a tenth of everything is pale, however pale its neighbours are."""
    panel = label_map(np.full((3, 10), 7), title="t")
    shares, scale = (m.values for m in panel.marks if isinstance(m, Pixels))
    np.testing.assert_allclose(shares, 0.1)
    assert (scale.min(), scale.max()) == (0, 1)
    assert {"0%", "100% of a client's samples"} <= {
        m.text for m in panel.marks if isinstance(m, Text)
    }


def test_phases_have_no_colour_of_a_method() -> None:
    bars = {"knfu": dict.fromkeys(("train", "fuse", "distill", "odd", "odder"), 1.0)}
    used = set(phase_colours(list(bars.values())).values())
    assert len(used) == 5
    for colours in (theme.LIGHT, theme.DARK):
        methods = {colours[role] for role in (*theme.SERIES, "base")}
        assert not {colours[role] for role in used} & methods


def test_lines_differ_in_their_stroke_and_not_only_in_colour() -> None:
    looks = [theme.ALONE[0], *(theme.look(i) for i in range(6))]
    assert len({dash for _, dash in looks}) == 7


def test_phases_get_lighter_so_that_grey_print_tells_them() -> None:
    for colours in (theme.LIGHT, theme.DARK):
        against = [contrast(colours[f"p{i}"], colours["paper"]) for i in range(3)]
        assert against[0] > 1.5 * against[1] > 1.5 * 1.5 * against[2]


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


def test_shares_by_class_show_every_one_of_few() -> None:
    shares = np.array([[0.75, 0.5, 0.25], [0.25, 0.5, 0.75]])
    panel = class_map(shares, title="t", ids=[4, 9])
    texts = [m.text for m in panel.marks if isinstance(m, Text)]
    written = [text for text in texts if text.startswith(".")]
    assert written == [".75", ".50", ".25", ".25", ".50", ".75"]
    assert {"4", "9", "0", "1", "2"} <= set(texts)
    (pixels,) = [m for m in panel.marks if isinstance(m, Pixels)]
    assert pixels.values[0, 0] > pixels.values[0, 1] > pixels.values[0, 2]


def test_few_of_many_clients_are_called_by_their_numbers() -> None:
    weights, ids = np.array([[0.75, 0.25], [0.75, 0.25]]), [7, 19_999]
    for draw in (weight_matrix, neighbour_graph):
        texts = [m.text for m in draw(weights, title="t", ids=ids).marks if isinstance(m, Text)]
        assert {"7", "19999"} <= set(texts)
        assert not {"0", "1"} & set(texts)


def test_equal_weights_are_known_as_such() -> None:
    assert is_uniform(np.full((2, 4, 4), 0.25))
    absent = np.zeros((1, 3, 3))
    absent[0, :2, :2] = 0.5
    assert is_uniform(absent)
    assert not is_uniform(np.eye(3)[None])


def test_labels_show_shares_and_sizes() -> None:
    counts = np.array([[30, 10, 0], [0, 0, 80]])
    panel = label_map(counts, title="t")
    pixels = next(m for m in panel.marks if isinstance(m, Pixels))
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
    "gains": gain_strip(
        RNG.normal(size=(3, 200)) / 50, np.zeros((3, 200)), title="b", seeds=(0, 1, 2)
    ),
    "labels": label_map(RNG.integers(0, 50, size=(300, 100)), title="c"),
    "matrix": weight_matrix(RNG.dirichlet(np.ones(100), size=100), title="d"),
    "classes": class_map(RNG.dirichlet(np.ones(300), size=100).T, title="g"),
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
            gain_strip(np.array([[0.1]]), np.array([[1]]), title="$x$ & <y>"),
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


def test_an_svg_file_needs_no_style_sheet() -> None:
    """Outside a browser var(--ink) is black: every colour is written out."""
    for panel in PANELS.values():
        text = standalone(panel, 0.5)
        root = ET.fromstring(text)
        assert "var(" not in text
        assert "<style" not in text
        assert root.get("width") == f"{panel.width / 2:.2f}pt"
        painted = {
            value
            for element in root.iter()
            for name, value in element.attrib.items()
            if name in ("fill", "stroke") and value != "none"
        }
        assert painted <= set(theme.LIGHT.values())
        assert len(painted) > 2


@pytest.mark.parametrize(("width", "font", "most"), [(3.3, 8.0, 1), (6.9, 8.0, 2), (12.0, 8.0, 2)])
def test_a_paper_gets_the_width_and_the_letters_it_asked_for(
    width: float, font: float, most: int, tmp_path: Path
) -> None:
    layout = paper(width, font)
    panels = tuple(
        curves([series([[1, 2]])], title=name, y_label="y", width=layout.panel) for name in "ab"
    )
    figure = Figure("n", "A title", "c", panels, Numbers((), ()), (Key("k", "s0"),))
    drawing = sheet(figure, layout)
    assert layout.most == most
    assert drawing.width * layout.scale == pytest.approx(72 * width, abs=2)
    sizes = {m.size * layout.scale for m in drawing.marks if isinstance(m, Text) and not m.bold}
    assert sizes == {font}
    assert "A title" not in {m.text for m in drawing.marks if isinstance(m, Text)}
    for mark in drawing.marks:
        for x, y in mark.points if isinstance(mark, Line) else []:
            assert 0 <= x <= drawing.width
            assert 0 <= y <= drawing.height
    write_pdf(drawing, tmp_path / "a.pdf", layout.scale)
    write_pdf(drawing, tmp_path / "b.pdf", layout.scale)
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert pdf == (tmp_path / "b.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
    assert float(box[1]) == pytest.approx(72 * width, abs=2)
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("text", ["3.3", "3.3in", "8.382cm", "83.82mm", "237.6pt"])
def test_a_width_may_have_a_unit(text: str) -> None:
    assert inches(text) == pytest.approx(3.3)


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "nan", "inf", "1e9", "3,3", "wide", "3.3 furlongs"]
)
def test_a_width_that_no_page_has_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="1 to 40 inches"):
        inches(text)


def test_letters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least"):
        paper(1.5, 12)
    with pytest.raises(ConfigError, match="4 to 36 points"):
        font_size("72")


NASTY = "a\x00\x1b[31m\u202e\ud800\n]]>&amp;<![CDATA[$x^2$" + "y" * 2**20


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    marks = (Text(5, 20, NASTY), Dot(5, 5, 2, "ink", label=NASTY))
    drawing = Drawing(90, 30, marks, NASTY, NASTY)
    for text in (standalone(drawing), inline(drawing, "n")):
        ET.fromstring(text)
        assert len(text.encode()) < 50_000
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", text)
    write_pdf(drawing, tmp_path / "n.pdf")
    write_png(drawing, tmp_path / "n.png")
