"""``fedfuse list`` and ``fedfuse show`` tell what the configuration itself says, at once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from experiments.cli import listing, show
from experiments.config.pages import FACTS, Page, groups, option_files, options
from experiments.run import main

DOCS = Path(__file__).parents[3] / "docs"
EVERY = [(group, name) for group in groups() for name in option_files(group)]


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words]) == 0
    return capsys.readouterr().out


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A configuration folder of a user's own, with a partitioner."""
    (tmp_path / "partitioner").mkdir()
    text = "# By city.\n_target_: mine_of_nobody.by_city\nshare: 0.7 # of the largest city\n"
    (tmp_path / "partitioner" / "list.yaml").write_text(text)
    return tmp_path


def test_a_pipe_gets_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    lines = asked(capsys, "list").splitlines()
    assert [line.split()[:2] for line in lines] == [[g, d] for g, (d, _) in groups().items()]
    lines = asked(capsys, "list", "method").splitlines()
    assert [line.split()[0].rstrip("*") for line in lines] == list(option_files("method"))
    assert next(line for line in lines if "*" in line.split()[0]).startswith("knfu*")
    assert "[FedAvg, arXiv 1602.05629]" in next(line for line in lines if line.startswith("fedavg"))


@pytest.mark.parametrize("width", [30, 80])
def test_a_terminal_gets_its_width(width: int) -> None:
    lines = [*listing.of_all(width), *listing.of_group("method", None, width)]
    words = 24  # the longest that is never broken: fedmd_pretrained and its indent
    assert max(map(len, lines)) <= max(width, words)
    told = " ".join(" ".join(lines).split())
    for page in options("method").values():
        assert page.about in told


def test_a_users_own_options_are_marked(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of them is called like a subcommand, and is an option all the same."""
    folder = f"--config-dir={own}"
    assert "\nlist+ " in asked(capsys, "list", "partitioner", folder)
    assert "list+ " in asked(capsys, "--config-dir", str(own), "list", "partitioner")
    text = asked(capsys, "show", "partitioner=list", folder)
    assert "partitioner.share=0.7  of the largest city" in text
    assert "not found from here" in text
    assert "share: 0.7" in asked(capsys, "partitioner=list", folder, "--cfg", "job")


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_every_option_can_be_shown(group: str, name: str) -> None:
    lines = list(show.of_option(group, name, None, 80))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert f"experiments/conf/{group}/{name}.yaml" in text
    assert "not found from here" not in text  # every target leads to its source
    page = options(group)[name]
    for key, value, _ in page.keys:
        assert f"{key}={value}" in text
    for fact in page.facts.values():
        assert fact in " ".join(text.split())


def test_a_method_is_shown_with_what_it_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    text = asked(capsys, "show", "method=fed_et")
    assert re.search(r"scorer=uniform +knfu\n", text)
    assert re.search(r"sharpen=none +\(the default\)\n", text)
    assert re.search(r"rule\.measure=variance +entropy\n", text)
    assert re.search(r"rule\.standardise=true +default false; bring", text)
    assert re.search(r"verified +ours: the formula was not read in the paper\n", text)
    assert "fedfuse.fusion.per_sample.ConfidenceWeighted" in text
    assert "[arXiv 1503.02531]" in text  # from the docstring of its loss
    text = asked(capsys, "show", "method=fedmd_pretrained")
    assert re.search(r"warmup_rounds=0 +1 +rounds of local training", text)


def test_an_experiment_is_shown_with_its_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    text = asked(capsys, "show", "experiment=k4")
    assert "sweeps over 15 runs: fedfuse -m experiment=k4" in text
    assert re.search(r"num_rounds=6 +10\n", text)


def test_several_words_are_compared_with_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    text = asked(capsys, "show", "method=mean", "partitioner.alpha=0.1", "seed=3")
    changed = {
        line.split()[0]: line.split()[1:3] for line in text.splitlines()[3:] if line[0] > " "
    }
    assert changed == {
        "partitioner.alpha": ["0.5", "0.1"],
        "scorer": ["knfu", "uniform"],
        "method": ["knfu", "mean"],
        "seed": ["0", "3"],
    }
    assert "These are the defaults." in asked(capsys, "show", "method=knfu", "seed=0")
    assert "partitioner._target_  -          a.b" in asked(
        capsys, "show", "partitioner._target_=a.b", "seed=0"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("list metod", "Did you mean 'method'?"),
        ("list a b", "got a b"),
        ("list knfu", "fedfuse show scorer=knfu or fedfuse show method=knfu"),
        ("list scorer=knfu", "Try: fedfuse show scorer=knfu"),
        ("list client", "fedfuse --help client"),
        ("list --confg-dir x", "Did you mean '--config-dir'?"),
        ("list --config-dir nowhere", "is not a folder: got nowhere"),
        ("show", "Try: fedfuse show method=knfu"),
        ("show scorer", "fedfuse list scorer"),
        ("show knfu", "fedfuse show scorer=knfu or"),
        ("show scorer=knfuu", "Did you mean 'knfu'?"),
        ("show scorr=knfu", "no key or group 'scorr'"),
        ("show num_clients=none", "num_clients must be an integer"),
    ],
)
def test_a_mistake_is_one_message(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert told in err
    assert (out, err.count("error:"), err.count("\n")) == ("", 1, 1)


@pytest.mark.parametrize(
    "command", ["list", "show method=mean", "--cfg job", "--help", "--help knfu"]
)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [1\n b: }", "cannot be read as YAML in line 2"),
        (b"\xff\xfe", "cannot be read as YAML: invalid start byte"),
        (b"- a\n", "got a list"),
    ],
)
def test_a_broken_file_of_the_users_own(
    command: str, content: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "partitioner").mkdir()
    (tmp_path / "partitioner" / "mine.yaml").write_bytes(content)
    assert main([*command.split(), "--config-dir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_a_reader_that_goes_away_is_no_mistake() -> None:
    fedfuse = Path(sys.executable).with_name("fedfuse")
    first = f"{fedfuse} list method | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", first], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in ("0", "141")


def methods_table(pages: Mapping[str, Page], order: Iterable[str]) -> str:
    """Return the table of ``docs/methods.md``: a row a method, from the head of its file.

    Args:
        pages: Every method's page.
        order: Their names, from the first row to the last.
    """
    head = "| bundle | goes up | the server computes | comes down | personal | kB up / down "
    lines = [f"{head}| source | verified |", "|---" * 8 + "|"]
    for name in order:
        facts = {"personal": "-", **pages[name].facts}
        cells = [facts.get(fact, "").removesuffix(" kB") for fact in FACTS]
        link = f"[`{name}`](../experiments/conf/method/{name}.yaml)"
        lines.append("| " + " | ".join([link, *cells]).replace("|  ", "| ") + " |")
    return "\n".join(lines)


def test_the_table_of_methods_is_made_from_their_files() -> None:
    """If this fails, put what :func:`methods_table` returns into the page."""
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    order = re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE)
    assert sorted(order) == sorted(option_files("method"))
    assert methods_table(options("method"), order) in text
    assert set(FACTS) >= {fact for page in options("method").values() for fact in page.facts}
