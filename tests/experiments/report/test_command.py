"""A report from real runs: what it says, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from experiments import run
from experiments.report import command
from experiments.report.page import MARK
from experiments.results import TESTS, Moment, comparisons, load, run_groups
from experiments.summary import comparison
from fedfuse.compare import ranking, verdict

COMMON = ["dataset=synthetic", "model=mlp", "num_clients=4", "partitioner.alpha=0.3"]
FIGURES = (
    "forest", "curves", "gains", "labels", "effectiveness-knfu", "neighbours", "traffic", "time",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    one = [*COMMON, "num_rounds=3", "method=knfu", "seed=0", f"hydra.run.dir={folder / 'one'}"]
    sweep = ["-m", *COMMON, "num_rounds=3", "method=local,mean,knfu", "seed=0,1"]
    assert run.main(one) == 0
    assert run.main([*sweep, f"hydra.sweep.dir={folder / 'sweep'}"]) == 0
    return folder


class Reader(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if attrs.get("id")]


def report(folder: Path, *more: str) -> str:
    assert command.main([str(folder), *more]) == 0
    return (folder / "report.html").read_text(encoding="utf-8")


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert command.main([str(word) for word in argv]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "Traceback" not in told
    return told


def test_the_page_of_a_sweep_has_everything_and_needs_nothing(made: Path) -> None:
    page = report(made / "sweep")
    reader = Reader(page)
    ids = reader.ids()
    assert len(ids) == len(set(ids)), "an id is there twice"
    assert set(FIGURES) <= set(ids)
    tables = ("comparison", "changes", "validation", "configuration", "environment", "runs")
    assert {f"table-{name}" for name in tables} <= set(ids)
    for tag, attrs in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href"):
            value = attrs.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), f"{tag} {name}={value}"
    assert not re.search(r"@import|url\(", page)
    for link in re.findall(r'href="#([^"]+)"', page):
        assert link in ids


def test_the_page_says_what_the_statistics_say(made: Path) -> None:
    page = html.unescape(report(made / "sweep"))
    (run_group,) = run_groups(load(made / "sweep").runs)
    for test in ("accuracy_own", "accuracy_global"):
        found = comparisons(run_group, test, Moment.LAST)
        for method in ("mean", "knfu"):
            assert verdict(found[method], method) in page


def test_one_run_has_no_interval_and_the_numbers_of_its_summary(made: Path) -> None:
    page = report(made / "one")
    assert page.count("With one seed there is no interval") == 2
    summary = json.loads((made / "one" / "summary.json").read_text())
    rows = dict(re.findall(r"<td>(own|balanced)</td>(.*?)</tr>", page, re.DOTALL))
    for name, test in (("own", "accuracy_own"), ("balanced", "accuracy_global")):
        shown = re.findall(r'data-sort="([^"]*)"', rows[name])
        figures = summary["last"]["tests"][test]
        wanted = [1, figures["baseline_mean"], figures["mean"], figures["gain"]]
        assert [float(value) for value in shown[:4]] == pytest.approx(wanted)
        assert figures["newly_right"] - figures["newly_wrong"] == pytest.approx(figures["gain"])
    changes = page.split('id="table-changes"')[1].split("</table>")[0]
    for name, test in (("own", "accuracy_own"), ("balanced", "accuracy_global")):
        row = re.search(rf"<td>{name}</td>(.*?)</tr>", changes, re.DOTALL)[1]
        figures = summary["last"]["tests"][test]
        told = ("newly_right", "newly_wrong", "fuar", "baseline_ece", "ece")
        wanted = [figures[k] for k in told if figures[k] is not None]
        shown = [float(value) for value in re.findall(r'data-sort="([^"]*)"', row)[: len(wanted)]]
        assert shown == pytest.approx(wanted)


def test_a_report_is_replaced_and_nothing_else_is(
    made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert report(made / "one")
    assert report(made / "one")
    mine = tmp_path / "mine.html"
    mine.write_text("<p>precious</p>")
    assert "was not written by fedfuse-report" in refused(capsys, made / "one", "-o", mine)
    assert mine.read_text() == "<p>precious</p>"
    assert command.main([str(made / "one"), "-o", str(tmp_path / "new" / "r.html")]) == 0
    assert MARK in (tmp_path / "new" / "r.html").read_text()


@pytest.mark.parametrize("kind", ["svg", "csv", "latex"])
def test_everything_becomes_files(made: Path, kind: str, tmp_path: Path) -> None:
    assert command.main([str(made / "sweep"), "--format", kind, "-o", str(tmp_path / "out")]) == 0
    names = {file.stem for file in (tmp_path / "out").iterdir()}
    assert names >= ({"comparison", "validation"} if kind == "latex" else set(FIGURES))
    assert all(file.stat().st_size > 50 for file in (tmp_path / "out").iterdir())


def test_one_figure_becomes_a_picture(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "who.png"
    line = [str(made / "one"), "--format", "png", "--figure", "gains", "-o", str(target)]
    assert command.main(line) == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_the_best_method_comes_first_and_the_forest_with_it(made: Path) -> None:
    page = html.unescape(report(made / "sweep"))
    (run_group,) = run_groups(load(made / "sweep").runs)
    found = {words: comparisons(run_group, test) for test, words in TESTS.items()}
    assert f'<p class="best">{ranking(found)}</p>' in page.split('<ul class="verdicts">')[0]
    assert page.index('<figure id="forest"') < page.index('id="table-comparison"')


def test_several_folders_make_one_report(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = sorted(path.parent for path in (made / "sweep").glob("*/run.json"))
    assert command.main([str(path) for path in runs]) == 0
    assert capsys.readouterr().out == "report.html\n"
    text = (tmp_path / "report.html").read_text()
    assert "(95%, 2 seeds)" in text
    # The run is in the sweep as well: the same, so it counts once and says so.
    assert command.main([str(made / "sweep"), str(made / "one")]) == 0
    assert "to the last number; the two count once" in (tmp_path / "report.html").read_text()


def test_numbers_are_tidy_and_unrounded(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "gains.csv"
    line = [str(made / "sweep"), "--format", "csv", "--figure", "gains", "-o", str(target)]
    assert command.main(line) == 0
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 4  # tests, methods, seeds, clients
    summary = json.loads((made / "one" / "summary.json").read_text())
    for client in summary["clients"]:
        (row,) = [
            row
            for row in rows
            if (row["method"], row["test"], row["seed"], row["client"])
            == ("knfu", "accuracy_own", "0", str(client["client_id"]))
        ]
        assert float(row["gain"]) == client["gain"]["accuracy_own"]


def test_a_table_for_a_paper(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "table.tex"
    line = [str(made / "sweep"), "--format", "latex", "--figure", "comparison", "-o", str(target)]
    assert command.main(line) == 0
    text = target.read_text()
    for part in ("\\toprule", "\\midrule", "\\bottomrule", "\\label{tab:comparison}", "95\\%"):
        assert part in text
    body = text.split("\\midrule")[1].split("\\bottomrule")[0].strip().splitlines()
    assert len(body) == 4
    assert len({line.count("&") for line in body}) == 1
    assert all(line.rstrip().endswith("\\\\") for line in body)


def test_mistakes_cost_one_message(
    made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no run in" in refused(capsys, tmp_path / "empty")
    assert "is not a folder" in refused(capsys, tmp_path / "nowhere")
    assert "needs the folder" in refused(capsys)
    one = made / "one"
    assert "invalid choice" in refused(capsys, one, "--format", "gif")
    told = refused(capsys, one, "--format", "svg", "--figure", "gain")
    assert "no 'gain'" in told
    assert "Did you mean 'gains'?" in told
    assert "--figure chooses" in refused(capsys, one, "--figure", "gains")
    assert "are of figures in files" in refused(capsys, one, "--width", "3.3")
    assert "1 to 40 inches" in refused(capsys, one, "--format", "pdf", "--width", "nan")
    assert "4 to 36 points" in refused(capsys, one, "--format", "svg", "--font-size", "x")
    assert "too narrow" in refused(capsys, one, "--format", "pdf", "--width", "1.2")
    told = refused(capsys, one, "--format", "svg", "-o", tmp_path / "all.svg")
    assert "one file cannot hold" in told
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(capsys, one, "-o", tmp_path / "file" / "r.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file"]


def test_a_run_of_a_newer_version_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    newer = shutil.copytree(made / "one", tmp_path / "newer")
    record = json.loads((newer / "run.json").read_text())
    (newer / "run.json").write_text(json.dumps(record | {"format": 999}))
    assert "written by a newer fedfuse" in refused(capsys, newer)


def test_an_unfinished_run_is_told_of_and_left_out(made: Path, tmp_path: Path) -> None:
    sweep = shutil.copytree(made / "sweep", tmp_path / "sweep")
    half = sweep / "5-knfu-seed1"
    record = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps(record | {"status": "running"}))
    (half / "summary.json").unlink()
    page = report(sweep)
    assert "5-knfu-seed1 is not finished (status: running) and does not count" in page
    assert "With one seed there is no interval: knfu" in page
    assert "(95%, 2 seeds)" in page  # the mean's are all there


def test_a_run_without_a_baseline_and_without_teachers(tmp_path: Path) -> None:
    line = [*COMMON, "method=local", "num_rounds=1", "warmup_rounds=0", "baseline=none"]
    assert run.main([*line, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    ids = Reader(report(tmp_path / "run")).ids()
    assert {"curves", "labels", "time"} <= set(ids)
    assert not {"gains", "traffic", "table-comparison"} & set(ids)


def test_a_sweep_over_federations_has_a_map_and_a_part_for_each(tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    line = ["-m", "dataset=synthetic", "model=mlp", "num_clients=3", "num_rounds=2", "method=knfu"]
    assert run.main([*line, "partitioner.alpha=0.5,5", f"hydra.sweep.dir={grid}"]) == 0
    page = report(grid)
    ids = Reader(page).ids()
    assert len(ids) == len(set(ids))
    assert {"map", "federation-1", "federation-2", "curves-1", "curves-2", "gains-2"} <= set(ids)
    assert "nothing is shown: the mean gains of knfu over 2 federations" in page
    assert "<summary>alpha 0.5</summary>" in page
    target = tmp_path / "map.csv"
    assert (
        command.main([str(grid), *["--format", "csv", "--figure", "map", "-o"], str(target)]) == 0
    )
    with target.open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["test"], row["partitioner.alpha"]): float(row["gain"]) for row in rows}
    for folder in grid.glob("*-knfu-*"):
        summary = json.loads((folder / "summary.json").read_text())
        alpha = "0.5" if "alpha=0.5" in summary["partitioner"] else "5"
        for test, figures in summary["last"]["tests"].items():
            assert found[test, alpha] == pytest.approx(figures["gain"])


def test_federations_that_differ_in_a_part_that_only_one_has_have_no_map(tmp_path: Path) -> None:
    line = ["-m", "dataset=synthetic", "model=mlp", "num_clients=3", "num_rounds=2"]
    line += ["public.size=260", "method=mean,scarlet", f"hydra.sweep.dir={tmp_path / 's'}"]
    assert run.main(line) == 0
    ids = Reader(report(tmp_path / "s")).ids()
    assert "map" not in ids
    assert {"federation-1", "federation-2"} <= set(ids)


ATTACK = "</script><script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"


def hostile(one: Path, target: Path) -> Path:
    """Return a run folder whose every text is an attack."""
    folder = shutil.copytree(one, target)
    for name in ("summary.json", "run.json"):
        content = json.loads((folder / name).read_text())
        for key in ("method", "dataset", "partitioner", "model", "overrides", "public_set"):
            if key in content:
                content[key] = [ATTACK] if key == "overrides" else ATTACK
        if "versions" in content:
            content["versions"] = {ATTACK: ATTACK}
        (folder / name).write_text(json.dumps(content))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config + json.dumps(ATTACK) + ": " + json.dumps(ATTACK))
    return folder


TERMS = (
    "[red]x[/] [link=http://h]y[/link]",
    "=cmd|'/c calc'!A1",
    "\x1b[2J\x00\u202e",
    "*",
    "\ud800",
)


@pytest.fixture(scope="module")
def named(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sweep whose methods, data sets and keys have the names of TERMS."""
    sweep = tmp_path_factory.mktemp("named")
    for i, word in enumerate(TERMS):
        folder = shutil.copytree(made / "one", sweep / str(i))
        for name in ("summary.json", "run.json"):
            content = json.loads((folder / name).read_text())
            content |= {"seed": i} if name == "run.json" else {"method": word, "dataset": word}
            (folder / name).write_text(json.dumps(content))
        key = json.dumps(word.replace("\ud800", ""))  # YAML has no lone surrogates
        config = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(f"{config}{key}: {key}\n")
    return sweep


@pytest.mark.parametrize("kind", ["html", "svg", "pdf", "csv", "latex"])
def test_no_name_acts_in_any_format(
    named: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {
        "latex": ["comparison", "runs", "configuration"],
        "csv": ["forest", "runs", "configuration"],
        "pdf": ["forest"],
    }.get(kind, [] if kind == "html" else ["forest", "time"])
    line = [str(named), "--format", kind, "-o", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    assert command.main(line + [w for name in names for w in ("--figure", name)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    for file in (tmp_path / "out").iterdir():
        if kind == "pdf":
            continue
        text = file.read_text(encoding="utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)
        if kind == "svg":
            ElementTree.fromstring(text)
        elif kind == "csv":
            fields = [field for row in csv.reader(text.splitlines()) for field in row]
            numbers = re.compile(r"[+-]?[\d.]+(e-?\d+)?|-inf")
            formulas = [f for f in fields if f[:1] in tuple("=+-@") and not numbers.fullmatch(f)]
            assert not formulas
        elif kind == "latex":
            starts = re.findall(r"(?:\\\\|rule)\s*(\S)", text.split("\\toprule")[1])
            assert not {"[", "*"} & set(starts)


def test_no_name_acts_on_the_terminal(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="standard", width=200)
    comparison.table(named, console)
    assert "[red]x[/] [link=http://h]y[/link] is best" in stream.getvalue().replace("\n", " ")
    codes = set(re.findall("\x1b[^m]*m?", stream.getvalue()))
    assert codes <= {"\x1b[1m", "\x1b[0m", "\x1b[1;32m", "\x1b[1;31m"}
    assert command.main([str(named / "\x1b[2J[red]\u202e")]) == 2
    told = capsys.readouterr().err
    assert r"\x1b[2J[red]\u202e' is not a folder" in told


def test_a_folder_of_very_many_methods_and_classes_stays_readable(
    made: Path, tmp_path: Path
) -> None:
    for i in range(30):
        folder = tmp_path / "many" / str(i)
        folder.mkdir(parents=True)
        for file in (made / "one").iterdir():
            if file.suffix in (".parquet", ".safetensors", ".json"):
                (folder / file.name).hardlink_to(file)
        config = (made / "one" / "config.yaml").read_text()
        config, changed = re.subn(r"(?m)^temperature: .*$", f"temperature: {i + 1}.5", config)
        assert changed == 1
        (folder / "config.yaml").write_text(config)
        summary = json.loads((folder / "summary.json").read_text())
        for client in summary["clients"]:
            client["class_counts"] = [client["client_id"] + 1] * 3000
        (folder / "summary.json").unlink()
        (folder / "summary.json").write_text(json.dumps(summary))
    page = report(tmp_path / "many")
    assert "figures show at most 24 methods" in page
    table = page.split('id="table-comparison"')[1].split("</table>")[0]
    assert table.count("knfu (") == 30 * 2
    assert len(re.findall('<figure id="effectiveness', page)) == 24
    assert len(page) < 3_000_000


def test_nothing_of_a_hostile_folder_becomes_markup(made: Path, tmp_path: Path) -> None:
    page = report(hostile(made / "one", tmp_path / "bad"))
    reader = Reader(page)
    assert [attrs for tag, attrs in reader.tags if tag == "script"] == [{}]
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert not [name for _, attrs in reader.tags for name in attrs if name.startswith("on")]
    assert "owned" in page, "the texts are shown as texts"


def test_help_fits_and_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    heavy = "{'torch', 'numpy', 'hydra', 'pyarrow', 'matplotlib', 'rich', 'PIL', 'jinja2'}"
    code = (
        "import sys; from experiments.report.command import main; main(['--help']); "
        f"sys.exit(bool({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
