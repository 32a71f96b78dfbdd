"""What the pages say is so: links lead somewhere, code runs, commands exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import fedfuse
from fedfuse.testing import check_partitioner, check_scorer
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FILE = re.compile(r"```python\n# (my_\w+\.py).*?\n(.*?)```", re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as a forge makes them."""
    plain = (re.sub(r"[`*\[\]]|\(.*?\.md\)", "", head.lower()) for head in HEADING.findall(text))
    return {re.sub(r"[^\w\s-]", "", head).strip().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text("utf-8")), link


def test_commands_of_pages_exist():
    known = {line.split(" = ")[0].strip() for line in (ROOT / "setup.cfg").read_text().splitlines()}
    for page in PAGES:
        for command in re.findall(r"^(fedfuse-\w+) ", page.read_text("utf-8"), re.MULTILINE):
            assert command in known, (page, command)


def test_make_lists_its_targets_and_has_those_that_pages_name():
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())
    assert set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)) == targets, "make help"
    for page in PAGES:
        named = re.findall(
            r"(?:`|^)make ([a-z-]+)(?=`| [A-Z]| {2}|$)", page.read_text("utf-8"), re.M
        )
        assert set(named) <= targets, page


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, dict[str, object]]:
    """Return what the files that the guides tell to write define."""
    found = {}
    for page in (ROOT / "docs/guides").glob("*.md"):
        for name, code in FILE.findall(page.read_text("utf-8")):
            (tmp_path / name).write_text(code, "utf-8")
            found[name] = runpy.run_path(str(tmp_path / name))
    return found


def test_parts_of_the_guides_run(parts, tmp_path):
    check_scorer(parts["my_scorer.py"]["agreement"])
    check_scorer(parts["my_class_scorer.py"]["surest"])
    check_partitioner(parts["my_partitioner.py"]["by_halves"])
    tiny = [*TINY, "num_clients=3", "baseline=none"]
    mine = {
        "model": parts["my_models.py"]["Wide"],
        "scorer": parts["my_scorer.py"]["agreement"],
        "partitioner": parts["my_partitioner.py"]["by_halves"],
    }
    tiny = [word for word in tiny if word.split("=")[0] not in mine]
    run = fedfuse.simulate(*tiny, **mine, out=tmp_path / "run", progress=False)
    assert run.weights.shape == (1, 3, 3)
    moons = fedfuse.simulate(
        "num_clients=3", "num_rounds=2", "baseline=none", "model=mlp", "public.size=100",
        dataset=parts["my_data.py"]["two_moons"], out=tmp_path / "moons", progress=False,
    )  # fmt: skip
    assert moons.class_counts.shape == (3, 2)


def test_the_method_of_contributing_runs(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    (tmp_path / "conf/method").mkdir(parents=True)
    file = tmp_path / "conf/method/nearest_two.yaml"
    file.write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1], "utf-8")
    four = [word.replace("num_clients=3", "num_clients=4") for word in TINY]
    run = fedfuse.simulate(
        *four, "method=nearest_two", "baseline=none",
        config_dir=tmp_path / "conf", out=tmp_path / "run", progress=False,
    )  # fmt: skip
    assert ((run.weights[-1] > 0).sum(axis=1) == 3).all(), "two others and itself"
