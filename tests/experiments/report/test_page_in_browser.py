"""A report in a real browser: no complaint, no request, everything there, everything works."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import run
from experiments.report import command
from tests.experiments.report.chromium import Page, browser, find_browser
from tests.experiments.report.test_command import ATTACK, FIGURES, hostile

BROWSER = find_browser()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: install it or set FEDFUSE_BROWSER"),
]

VISIBLE = """(id => {
  const shown = [...document.getElementById(id).querySelectorAll('.panels svg')]
    .map(svg => svg.getBoundingClientRect()).filter(box => box.width > 100 && box.height > 60);
  return shown.length;
})"""
"""How many panels of a figure take up room on the screen."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seen") / "one"
    line = f"dataset=synthetic model=mlp num_clients=4 num_rounds=4 hydra.run.dir={folder}"
    assert run.main(line.split()) == 0
    assert command.main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert BROWSER is not None
    with browser(BROWSER, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(page: Page, one: Path) -> Page:
    page.forget()
    page.look()
    page.open(one / "report.html")
    return page


def test_it_opens_without_a_complaint_and_without_a_request(opened: Page, one: Path) -> None:
    assert opened.errors == []
    assert opened.requests == [(one / "report.html").as_uri()]
    assert opened.value("document.documentElement.classList.contains('scripted')")


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_seen(opened: Page, figure: str) -> None:
    assert opened.value(f"{VISIBLE}('{figure}')") > 0


def test_pictures_inside_figures_can_be_decoded(opened: Page) -> None:
    broken = opened.value(
        "Promise.all([...document.querySelectorAll('image')].map(image => { const i = new Image();"
        "i.src = image.getAttribute('href'); return i.decode().then(() => 0, () => 1); }))"
        ".then(all => document.title = all.reduce((a, b) => a + b, 0) + ' broken'); 0"
    )
    assert broken == 0
    for _ in range(100):
        if (title := opened.value("document.title")).endswith("broken"):
            break
    assert title == "0 broken"


def test_the_verdict_has_the_numbers_of_the_summary(opened: Page, one: Path) -> None:
    said = opened.value("[...document.querySelectorAll('.verdicts li')].map(li => li.innerText)")
    summary = json.loads((one / "summary.json").read_text())
    for text, test in zip(said, ("accuracy_own", "accuracy_global"), strict=True):
        gain = 100 * summary["last"]["tests"][test]["gain"]
        found = re.search(r"is ([\d.]+) points (above|below)|is (level)", text)
        if found[3]:
            assert abs(gain) < 0.05
        else:
            assert float(found[1]) * (1 if found[2] == "above" else -1) == pytest.approx(
                gain, abs=0.051
            )
        assert f"{summary['num_clients']} clients" in text


def test_the_slider_shows_one_round_at_a_time_and_takes_the_keyboard(opened: Page) -> None:
    shown = "[...document.querySelectorAll('.moments .frame.shown')].map(f => f.dataset.name)"
    told = "document.querySelector('.moments output').textContent"
    assert opened.value(shown) == ["round 4"]
    opened.value("document.querySelector('.moments input').focus()")
    opened.press("ArrowLeft", 37)
    assert opened.value(shown) == [opened.value(told)] == ["round 3"]
    opened.press("Home", 36)
    assert opened.value(shown) == ["round 2"]
    aria = "document.querySelector('.moments input').getAttribute('aria-valuetext')"
    assert opened.value(aria) == "round 2"
    assert opened.value(f"{VISIBLE}('effectiveness-knfu')") == 2


def test_a_heading_sorts_its_table(opened: Page) -> None:
    column = "[...document.querySelectorAll('#table-comparison tbody tr')].map(r => r.cells[{}]"
    gains = column.format(5) + ".dataset.sort).map(Number)"
    click = "document.querySelectorAll('#table-comparison thead button')[5].click()"
    opened.value(click)
    up = opened.value(gains)
    opened.value(click)
    assert up == sorted(up)
    assert opened.value(gains) == up[::-1]
    head = "document.querySelectorAll('#table-comparison thead th')[5].getAttribute('aria-sort')"
    assert opened.value(head) == "descending"


def test_the_theme_follows_the_system_until_it_is_told(opened: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    press = "document.querySelector('.theme').click()"
    light, dark = "rgb(255, 255, 255)", "rgb(17, 22, 29)"
    assert opened.value(paper) == light
    opened.look(dark=True)
    assert opened.value(paper) == dark
    opened.value(press)  # auto -> light
    assert opened.value(paper) == light
    opened.look()
    opened.value(press)  # light -> dark
    assert opened.value(paper) == dark
    opened.value(press)  # dark -> auto
    assert opened.value(paper) == light


def test_paper_shows_every_round_and_is_light(opened: Page) -> None:
    opened.look(media="print", dark=True)
    assert opened.value(f"{VISIBLE}('effectiveness-knfu')") == 6
    assert opened.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_telephone_does_not_scroll_sideways(opened: Page) -> None:
    opened.look(width=400)
    assert opened.value("document.documentElement.scrollWidth") <= 400
    assert opened.value(f"{VISIBLE}('curves')") == 2


def test_a_hostile_folder_runs_nothing(page: Page, one: Path, tmp_path: Path) -> None:
    bad = hostile(one, tmp_path / "bad")
    assert command.main([str(bad)]) == 0
    page.forget()
    page.open(bad / "report.html")
    assert page.errors == []
    assert page.requests == [(bad / "report.html").as_uri()]
    assert page.value("document.title") != "owned"
    assert ATTACK in page.value("document.querySelector('h1').textContent")
    # Even markup that slipped through could neither run nor fetch.
    page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=owned=1>')")
    for _ in range(200):
        page.value("0")  # takes what has happened meanwhile
        if page.blocked:
            break
        time.sleep(0.02)
    assert page.blocked
    assert page.value("typeof owned") == "undefined"
    assert page.requests == [(bad / "report.html").as_uri()]
