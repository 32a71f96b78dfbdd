"""A study file is the command that it prints, and a mistake in it costs one message."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from experiments.config import compose
from experiments.config.folder import CONF
from experiments.config.overrides import parse
from experiments.config.pages import groups
from experiments.run import main
from experiments.runs.study import command_lines, with_study

SMALL = """\
dataset: synthetic
model: mlp
num_clients: 2
num_rounds: 1
warmup_rounds: 0
client.local_epochs: 1
engine.name: serial
"""
STUDY = """\
# for the group meeting
method: knfu
num_clients: 6
partitioner:
  option: dirichlet   # the rest are its keys
  alpha: 0.1
client.batch_size: 32
name: "my study"

sweep:
  seed: [0, 1, 2]
  scorer:
    beta: [1, 10]
"""
COMMAND = [
    "method=knfu",
    "num_clients=6",
    "partitioner=dirichlet",
    "partitioner.alpha=0.1",
    "client.batch_size=32",
    "name='my study'",
    "seed=0,1,2",
    "scorer.beta=1,10",
]

MISTAKES: dict[str | bytes, list[str]] = {
    # the file -> what the message must say
    "": ["says nothing", "KEY: VALUE"],
    "# only a comment\n": ["says nothing"],
    "---\n": ["says nothing"],
    "seed=3\n": ["is no study", "got the text 'seed=3'"],
    "- seed\n- method\n": ["is no study", "got a list"],
    "seed: 3\n\tmethod: mean\n": ["cannot be read as YAML in line 2", "spaces, no tabs"],
    "seed: [0, 1\nmethod: mean\n": ["cannot be read as YAML in line 2"],
    "seed: 'x\n": ["cannot be read as YAML"],
    b"\xff\xfe\x00": ["cannot be read as YAML", "UTF-8"],
    b"seed: 3\x00\n": ["cannot be read as YAML"],
    "seed: " + "[" * 500 + "\n": ["line 1: it is nested too deeply"],
    "x: " + "y" * 2**20: ["too large for a study"],
    "seed: 3\nseed: 4\n": ["line 2: 'seed' is given twice, first in line 1"],
    "client:\n  batch_size: 3\nclient.batch_size: 4\n": [
        "line 3: 'client.batch_size' is given twice, first in line 2"
    ],
    "client:\n  threads: 1\nclient:\n  batch_size: 4\n": ["line 3: 'client' is given twice"],
    "seed: 3\nsweep: {seed: [0, 1]}\n": ["line 2: 'seed' is given twice, first in line 1"],
    "scorer: knfu\nscorer: {option: kta}\n": ["line 2: 'scorer' is given twice"],
    "name: a\nmethod.name: b\n": ["line 2: 'method.name' is given twice"],
    "seed: &s 3\n": ["line 1: anchors and aliases are not read: &s"],
    "seed: 3\nmethod: *m\n": ["line 2: anchors and aliases are not read: *m"],
    "a: &a [*a]\n": ["line 1: anchors and aliases are not read"],
    "seed: !!set {3}\n": ["line 1: tags are not read: tag:yaml.org,2002:set"],
    "seed: !!python/object/apply:os.system [ls]\n": ["line 1: tags are not read"],
    "seed: 3\n---\nseed: 4\n": ["line 2: a second document begins", "one study in a file"],
    "on: 3\n": ["line 1: 'on' is no key"],
    "[a, b]: 3\n": ["line 1: 'a list or a mapping' is no key"],
    "seed=3: 4\n": ["line 1: 'seed=3' is no key"],
    "client: {+threads: 4}\n": ["line 1: '+threads' is no key"],
    "seed: 3\n\nnum_cleints: 4\n": [
        "line 3: there is no key or group 'num_cleints'",
        "Did you mean 'num_clients'?",
    ],
    "partitioner:\n  option: dirichlet\n  alhpa: 1\n": [
        "line 3: partitioner=dirichlet has no parameter 'alhpa'",
        "Did you mean 'alpha'?",
    ],
    "seed: 3\nmethod: fedmb\n": ["line 2: no 'fedmb' in group 'method'", "mean 'fedmd'"],
    "seed: 3\nevaluation: {probes: [fgms]}\n": [
        "line 2: no 'fgms' in group 'probe'",
        "mean 'fgsm'?",
    ],
    "probe: fgms\n": ["line 1: no 'fgms' in group 'probe'"],
    "seed: x\n": ["line 1: seed must be an integer, got 'x'"],
    "seed:\n": ["line 1: seed must be an integer, got null"],
    "seed: 3\nclient:\n  batch_size: 0\n": ["line 3: client.batch_size is not valid: got 0"],
    "scorer: {option: knfu, beta: -1}\n": ["line 1:", "'beta' parameter", "got -1"],
    "seed: [0, 1]\n": ["line 1: seed takes one value, got [0,1]", "below sweep:"],
    "seed: 0,1\n": ["line 1: seed takes one value, got '0,1'", "below sweep:"],
    "method: [mean, knfu]\n": ["line 1: method takes one value, got [mean,knfu]"],
    "method: mean, knfu\n": ["line 1: method takes one value"],
    "sweep: [seed]\n": ["line 1: sweep names nothing to sweep over"],
    "sweep:\n": ["line 1: sweep names nothing to sweep over"],
    "method: mean\nsweep: {seed: 3}\n": ["line 2: seed below sweep has no list: got 3"],
    "sweep: {seed: '0,1'}\n": ["line 1: seed below sweep has no list: got '0,1'"],
    "sweep: {seed: []}\n": ["line 1: seed is swept over no values"],
    "sweep: {seed: [0, x]}\n": ["line 1: seed must be an integer, got 'x'"],
    "sweep: {seed: [[0, 1]]}\n": ["line 1: seed must be an integer, got [0, 1]"],
    "sweep: {scorer: [{option: knfu, beta: 1}]}\n": ["line 1: scorer is swept over objects"],
    "sweep: {seed: [0, 1]}\nseeds: 4\n": ["line 2: there is no key or group 'seeds'"],
    "experiment: k4\n": ["line 1: experiment=k4 is a sweep over", "-m"],
    "resume: outputs/x\n": ["line 1: resume goes on with what was begun"],
    "seed: 3\nmodel: {table: {0: mlp}}\n": ["line 2: model=lenet5 has no parameter 'table'"],
    "client:\n": ["line 1: client holds several keys"],
    "hydra: {job: {name: x}}\n": ["line 1: hydra.job.name would not be read"],
    "dataset: [1, 2]\n": ["line 1: dataset takes one value"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command_of(out: str) -> list[str]:
    """Return the words of the command that was printed, as a shell reads them."""
    return as_words(out.split(" equals\n\n")[1].split("\n\n")[0])


def as_words(printed: str) -> list[str]:
    """Return the words of a command on several lines, which a shell joins and shlex does not."""
    assert max(map(len, printed.splitlines())) <= 80
    return shlex.split(printed.replace("\\\n", ""))


@pytest.mark.parametrize("content", MISTAKES, ids=lambda text: repr(text)[:40])
def test_a_mistake_costs_one_message(
    content: str | bytes, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("study.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["--config-file", "study.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert "study.yaml" in err
    for words in MISTAKES[content]:
        assert words in err
    assert [file.name for file in here.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--config-file", "nowhere.yaml"], ["names no file: got nowhere.yaml"]),
        (["--config-file=studi.yaml"], ["names no file", "Did you mean 'study.yaml'?"]),
        (["--config-file", "."], ["names a folder"]),
        (["--config-file"], ["needs a file"]),
        (["--config-file", "-m"], ["needs a file"]),
        (["--config-fil", "study.yaml"], ["Did you mean '--config-file'?"]),
        (["--config-file", "study.yaml", "--config-file=b.yaml"], ["given twice"]),
        (["--config-file", "study.yaml", "resume=x"], ["resume goes on with what was begun"]),
        (["--config-file", "study.yaml", "--cfg", "job"], ["sweeps over seed, scorer.beta"]),
        (["--config-file", "study.yaml", "seed=x"], ["error: seed must be an integer"]),
        (["--config-file", "study.yaml", "seed=0", "seed=1"], ["'seed' is given twice"]),
        (["partition", "--config-file", "study.yaml"], ["'seed=0,1,2' names several values"]),
    ],
)
def test_a_mistake_beside_the_file_costs_one_message(
    words: list[str], wanted: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("study.yaml").write_text(STUDY)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    for text in wanted:
        assert text in err


def test_the_configuration_that_a_run_wrote_down_is_no_study(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL.replace(": ", "=").split(), "method=mean", "hydra.run.dir=run"]) == 0
    capsys.readouterr()
    for saved, wanted in {
        "run/config.yaml": "fedfuse dataset=synthetic",
        "copy.yaml": "type",
    }.items():
        Path("copy.yaml").write_text(Path("run/config.yaml").read_text())
        assert main(["--config-file", saved]) == 2
        err = capsys.readouterr().err
        assert "the whole configuration of one run" in err
        assert wanted in err
        assert err.count("\n") == 1


def test_a_study_is_the_command_that_it_equals(here: Path) -> None:
    Path("study.yaml").write_text(STUDY)
    words, study = with_study(["--config-file", "study.yaml"])
    assert words == ["-m", *COMMAND]
    assert study is not None
    lines = list(study.lines())
    assert lines[:2] == ["study.yaml equals", ""]
    assert as_words("\n".join(lines[2:])) == ["fedfuse", "-m", *COMMAND]


def test_the_printed_command_gives_the_same_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("study.yaml").write_text(SMALL + "sweep: {seed: [0, 1], method: [mean]}\n")
    assert main(["--config-file", "study.yaml", "hydra.sweep.dir=by_file"]) == 0
    command = command_of(capsys.readouterr().out)
    assert command[:2] == ["fedfuse", "-m"]
    again = [word.replace("by_file", "by_words") for word in command[1:]]
    assert main(again) == 0
    for kept in ("metrics.parquet", "config.yaml"):
        first = sorted(Path("by_file").glob(f"*/{kept}"))
        assert len(first) == 2
        for file in first:
            assert file.read_bytes() == Path("by_words", *file.parts[1:]).read_bytes()


@pytest.mark.parametrize(
    ("beside", "words", "replaced"),
    [
        (["seed=7"], ["-m", *COMMAND[:6], COMMAND[7], "seed=7"], ["seed=0,1,2"]),
        (
            ["seed=7", "scorer.beta=3"],  # no axis is left: one run
            [*COMMAND[:6], "seed=7", "scorer.beta=3"],
            ["seed=0,1,2", "scorer.beta=1,10"],
        ),
        (
            ["partitioner=iid"],
            ["-m", *COMMAND[:2], *COMMAND[4:], "partitioner=iid"],
            ["partitioner=dirichlet", "partitioner.alpha=0.1"],
        ),
        (
            ["scorer._target_=mine.score"],
            ["-m", *COMMAND[:7], "scorer._target_=mine.score"],
            ["scorer.beta=1,10"],
        ),
        (
            ["method.name=other"],
            ["-m", *COMMAND[:5], *COMMAND[6:], "method.name=other"],
            COMMAND[5:6],
        ),
        (["-m", "seed=4,5"], [*COMMAND[:6], COMMAND[7], "-m", "seed=4,5"], ["seed=0,1,2"]),
        (["temperature=2"], ["-m", *COMMAND, "temperature=2"], []),
    ],
)
def test_the_command_line_wins_and_says_so(
    beside: list[str], words: list[str], replaced: list[str], here: Path
) -> None:
    Path("study.yaml").write_text(STUDY)
    found, study = with_study(["--config-file", "study.yaml", *beside])
    assert found == words
    assert study is not None
    assert [one.override for one in study.replaced] == replaced
    said = " ".join(study.lines())
    assert all(override in said for override in replaced)
    assert ("the command line replaces" in said) == bool(replaced)


def test_values_of_every_kind_come_through(here: Path) -> None:
    """What YAML reads is what the configuration holds, lists and quotes and paths included."""
    Path("study.yaml").write_text(
        """\
distill: {option: tgeo, hidden: [8, 4]}
dataset: {option: npz, path: 2024_05_01}
client:
  share_class_distribution: true
  private_weight: 1e-1
name: "it's (mine), 50"
continue_from: "~/it's here, $HOME"
"""
    )
    words, study = with_study(["--config-file", "study.yaml"])
    assert study is not None
    assert as_words("\n".join(command_lines(words))) == words
    hydra = compose.open_hydra()
    values = {
        item.key_or_group: item.value()
        for item in parse(words, hydra.config_loader, multirun=False)
    }
    assert values["distill.hidden"] == [8, 4]
    assert str(values["dataset.path"]) == "2024_05_01"
    assert values["client.share_class_distribution"] is True
    assert values["client.private_weight"] == 0.1
    assert values["method.name"] == "it's (mine), 50"
    assert values["continue_from"] == "~/it's here, $HOME"


def test_lists_below_sweep_are_runs_and_lists_of_lists_are_lists(here: Path) -> None:
    Path("study.yaml").write_text("distill: tgeo\nsweep: {distill.hidden: [[8, 4], [2]]}\n")
    words, _ = with_study(["--config-file", "study.yaml"])
    assert words == ["-m", "distill=tgeo", "distill.hidden=[8,4],[2]"]
    _, configs = compose.check(compose.open_hydra(), words[1:], multirun=True)
    assert [list(cfg.distill.hidden) for cfg in configs] == [[8, 4], [2]]


def test_an_experiment_is_one_value_below_sweep(here: Path) -> None:
    Path("study.yaml").write_text("sweep: {experiment: [k4]}\n")
    words, _ = with_study(["--config-file", "study.yaml"])
    assert words == ["-m", "experiment=k4"]


def test_looking_takes_the_file_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.yaml").write_text(SMALL + "seed: 5\n")
    assert main(["show", "--config-file", "study.yaml"]) == 0
    assert re.search(r"^seed +0 +5", capsys.readouterr().out, re.M)
    assert main(["--config-file", "study.yaml", "--cfg", "job"]) == 0
    assert "seed: 5" in capsys.readouterr().out
    assert main(["--config-file", "nowhere", "--help"]) == 0
    assert "--config-file FILE" in capsys.readouterr().out
    assert main(["--config-file", "study.yaml", "partition", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 5


def test_sweep_is_the_name_of_nothing_else() -> None:
    assert "sweep" not in groups()
    keys = (CONF / "config.yaml").read_text()
    assert not re.search(r"^sweep:", keys, re.M)
