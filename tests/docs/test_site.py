"""The site builds strict, says what the configuration says, and asks the network for nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config.folder import CONF

pytest.importorskip("mkdocs")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//\S+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_option_has_its_place(site):
    for file in CONF.glob("*/*.yaml"):
        page = (site / "reference/configuration" / f"{file.parent.name}.html").read_text("utf-8")
        assert f'id="{file.stem}"' in page, file


def test_every_decision_is_listed(site):
    listed = (site / "decisions/index.html").read_text("utf-8")
    for file in (ROOT / "docs/decisions").glob("[0-9]*.md"):
        assert f"{file.stem}.html" in listed, file


def test_nothing_is_fetched_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    asked = {(page.name, url) for page in pages for url in FETCHED.findall(page.read_text("utf-8"))}
    assert not asked
    styles = "".join(file.read_text("utf-8") for file in site.rglob("*.css"))
    assert not re.findall(r"url\([\"']?https?:|@import", styles)


def test_a_link_out_of_docs_leads_to_the_same_here(site):
    methods = (site / "methods.html").read_text("utf-8")
    assert 'href="reference/configuration/method.html#fedmd"' in methods
    assert not re.findall(r'href="(?:\.\./)+(?:experiments|fedfuse|clients|server)/', methods)
