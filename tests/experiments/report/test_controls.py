"""A report shows each gain over every way of training alone; without a prior it is as ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.report.builder import tell
from experiments.report.contents import Report
from experiments.report.figure import Figure
from experiments.report.page import render
from experiments.report.table import Table, to_csv
from experiments.results import load
from tests.experiments.three_arms import ARMS, write

PLAIN = {"local": ARMS["local"], "knfu": (0.82, 0.7)}
LEARNED = {"local": ARMS["local"], "local_adjusted": (0.80, 0.66), "knfu_adjusted": (0.80, 0.66)}


def sweep(folder: Path, arms=ARMS, alpha: float = 0.5, seeds: int = 3) -> Path:
    for seed in range(seeds):
        write(folder / f"a{alpha}-s{seed}", arms, seed=seed,
              config=f"partitioner: {{alpha: {alpha}}}\n")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return tell(load(sweep(tmp_path_factory.mktemp("three"))))


def figure(report: Report, name: str) -> Figure:
    return next(figure for figure in report.figures() if figure.name == name)


def column(table: Table, name: str) -> list[str]:
    place = [column.name for column in table.columns].index(name)
    return [row[place].text for row in table.rows]


def test_the_table_has_a_row_for_each_control_and_both_corrected_ones(report: Report) -> None:
    table = report.tables[0]
    assert table.title == "Against training alone"
    which = [column(table, name) for name in ("method", "tested on", "over", "alone", "gain")]
    rows = list(zip(*which, strict=True))
    assert ("local (post hoc)", "balanced", "local", "52.0", "+8.0") in rows
    assert ("local_adjusted", "balanced", "local", "52.0", "+12.1") in rows
    assert ("knfu_adjusted", "balanced", "local", "52.0", "+25.1") in rows
    assert ("knfu_adjusted", "balanced", "local_adjusted", "64.1", "+13.0") in rows
    assert "local_adjusted is local training corrected for each client's label prior" in (
        table.caption
    )
    head, *lines = to_csv(table.numbers).splitlines()
    assert head.endswith(",undone,over")
    assert sum(line.endswith(",local_adjusted") for line in lines) == 2


def test_what_the_mean_hides_is_told_over_each_control(report: Report) -> None:
    table = next(table for table in report.tables if table.name == "changes")
    which = [column(table, name) for name in ("method", "tested on", "over", "error, alone")]
    rows = list(zip(*which, strict=True))
    assert ("knfu_adjusted", "balanced", "local", "7.0") in rows
    assert ("knfu_adjusted", "balanced", "local_adjusted", "8.3") in rows
    assert not any(method == "local (post hoc)" for method, *_ in rows)


def test_verdicts_answer_with_both_gains_and_leave_the_controls_to_them(report: Report) -> None:
    best, *told = report.verdicts
    assert "knfu_adjusted is best" in best.text
    assert [verdict.where.split(" ")[0] for verdict in told] == ["knfu_adjusted"] * 2
    assert all(verdict.text.startswith("Fuse. ") for verdict in told)
    assert [verdict.tone for verdict in told] == ["gain", "gain"]


def test_a_gain_that_is_the_priors_alone_is_not_called_fusings(tmp_path: Path) -> None:
    found = tell(load(sweep(tmp_path, LEARNED)))
    own, balanced = found.verdicts[1:]
    assert own.text.startswith("Train alone. ")
    assert balanced.text.startswith("Train alone with prior correction. ")
    assert "of the +16.1: most of the gain" in balanced.text or "no less than" in balanced.text
    assert balanced.tone == ""


def test_figures_show_each_control(report: Report) -> None:
    main = figure(report, "forest")
    assert main.title == "Gain over training alone"
    assert [panel.title for panel in main.panels] == [
        f"Gain over {over}, tested on: {test}"
        for over in ("local", "local_adjusted")
        for test in ("own distribution", "balanced test set")
    ]
    assert "local_adjusted" in main.panels[1].description
    assert "local_adjusted" not in main.panels[2].description
    gains = figure(report, "gains")
    assert [panel.title for panel in gains.panels] == [
        f"knfu_adjusted over {over}: {test}"
        for test in ("own distribution", "balanced test set")
        for over in ("local", "local_adjusted")
    ]
    curves = figure(report, "curves")
    drawn = {(row[0], row[1]) for row in curves.numbers.rows}
    assert ("accuracy_global", "local (post hoc)") in drawn
    assert ("accuracy_own", "local (post hoc)") not in drawn
    assert ("accuracy_own", "local_adjusted") in drawn
    labels = {key.label: key.colour for key in curves.legend}
    assert labels["local_adjusted"] == labels["local"] != labels["knfu_adjusted"]
    frontier = figure(report, "frontier")
    assert [row[1] for row in frontier.numbers.rows] == ["local", "local_adjusted", "knfu_adjusted"]


def test_several_federations_count_the_answers_and_map_each_control(tmp_path: Path) -> None:
    sweep(tmp_path, alpha=0.1)
    sweep(tmp_path, LEARNED, alpha=5.0)
    found = tell(load(tmp_path))
    texts = [verdict.text for verdict in found.verdicts]
    assert "Of 2 federations: fuse in 1, train alone with prior correction in 1." in texts
    assert any(text.startswith("knfu_adjusted beats prior-corrected") for text in texts)
    titles = [panel.title for panel in figure(found, "map").panels]
    assert "knfu_adjusted over local_adjusted: balanced test set" in titles
    assert "over local_adjusted" in render(found)


def test_a_report_without_a_prior_has_no_word_of_one(tmp_path: Path) -> None:
    found = tell(load(sweep(tmp_path, PLAIN)))
    assert found.tables[0].title == "Against local training"
    assert [column.name for column in found.tables[0].columns][:4] == [
        *("method", "tested on", "seeds", "local"),
    ]
    assert figure(found, "forest").title == "Gain over local training"
    assert figure(found, "forest").panels[0].title == "Gain, tested on: own distribution"
    page = render(found)
    for word in ("prior-corrected", "post hoc", "local_adjusted"):
        assert word not in page
    assert found.verdicts[1].text.startswith("knfu beats local training by 2.0 points")


def test_the_page_says_what_stays_certain_of_all_its_comparisons(report: Report) -> None:
    caption = report.tables[0].caption
    assert "Corrected for the 7 comparisons of this page (Holm, 5%): of " in caption
    assert "knfu_adjusted, balanced over local_adjusted" in caption or "7 stay certain" in caption
