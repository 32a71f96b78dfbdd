"""What TAB offers exists, is offered at once, and reaches a real shell."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.cli.answers import CHOICES, alternatives, answers
from experiments.cli.commands import COMMANDS
from experiments.cli.shells import PROGRAMS, SCRIPTS
from experiments.config.folder import CONF
from experiments.config.instantiate import instantiate
from experiments.config.pages import groups, option_files, options
from experiments.report.export import SUFFIXES
from experiments.run import main

BIN = Path(sys.executable).parent


def offered(line: str) -> list[str]:
    """Return what is offered after a command line, whose last word is being written."""
    program, *before, current = line.split(" ")
    return [value for value, _ in answers(program, before, current)]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("fedfuse sho", ["show"]),
        ("fedfuse scor", ["scorer=", "scorer."]),
        ("fedfuse scorer=kt", ["scorer=kta", "scorer=ktpfl"]),
        ("fedfuse -m method=local,kn", ["method=local,knfu", "method=local,knfu_adjusted"]),
        ("fedfuse partitioner.al", ["partitioner.alpha="]),
        ("fedfuse partitioner=shards partitioner.s", ["partitioner.shards_per_client="]),
        ("fedfuse method=fed_et rule.mea", ["rule.measure="]),  # the method chooses the rule
        ("fedfuse method=fed_et rule=krum rule.k", ["rule.keep="]),  # the word comes first
        ("fedfuse experiment=k3 partitioner.l", ["partitioner.leak="]),
        ("fedfuse guar", ["guard=", "guard."]),
        ("fedfuse guard=v", ["guard=validation"]),
        ("fedfuse client.share_class_distribution=t", ["client.share_class_distribution=true"]),
        ("fedfuse scorer.epd=o", ["scorer.epd=oracle"]),
        ("fedfuse codec=top_k codec.rest=", ["codec.rest=spread", "codec.rest=drop"]),
        ("fedfuse --cfg ", ["job", "all", "hydra"]),
        ("fedfuse --trace", ["--traceback"]),
        ("fedfuse --config-f", ["--config-file"]),
        ("fedfuse --config-file study.yaml sho", ["show"]),
        ("fedfuse list partit", ["partitioner"]),
        ("fedfuse list partitioner ", []),
        ("fedfuse show method=knf", ["method=knfu", "method=knfu_adjusted"]),
        ("fedfuse partition --js", ["--json"]),
        ("fedfuse completion f", ["fish"]),
        ("fedfuse seed=", []),
        ("fedfuse nothing=x", []),
        ("fedfuse-map map.al", ["map.alpha="]),
        (
            "fedfuse-map map.methods=[local,kn",
            ["map.methods=[local,knfu", "map.methods=[local,knfu_adjusted"],
        ),
        ("fedfuse-advise ev", ["evaluation.", "evaluate"]),
        ("fedfuse-report --figure ga", ["gains"]),
        ("fedfuse-report --format s", ["svg"]),
    ],
)
def test_what_may_come_next(
    line: str, wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sorted(offered(line)) == sorted(wanted)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a partitioner, a configuration and data of a user's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit\n\ndef halves(a, b, c): ...\n")
    (tmp_path / "conf" / "partitioner").mkdir(parents=True)
    (tmp_path / "conf" / "partitioner" / "city.yaml").write_text("_target_: a.b\nsize: 3\n")
    (tmp_path / "conf" / "partitioner" / "broken.yaml").write_bytes(b"\xff: [")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my file.npz").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("fedfuse partitioner._target_=", ["partitioner._target_=mine."]),
        ("fedfuse partitioner._target_=mine.", ["partitioner._target_=mine.halves"]),
        ("fedfuse dataset=npz dataset.path=da", ["dataset.path=data/"]),
        ("fedfuse dataset=npz dataset.path=data/", ["dataset.path=data/my file.npz"]),
        ("fedfuse sites=own sites.paths=[conf,da", ["sites.paths=[conf,data/"]),
        ("fedfuse resume=", ["resume=conf/", "resume=data/"]),
        ("fedfuse --config-dir ", ["conf/", "data/"]),
        ("fedfuse --config-dir conf partitioner=ci", ["partitioner=city"]),
        ("fedfuse --config-dir conf partitioner=city partitioner.s", ["partitioner.size="]),
        ("fedfuse-report d", ["data/"]),
        ("fedfuse-advise da", ["dataset=", "data/"]),
    ],
)
def test_what_is_the_users_own(line: str, wanted: list[str], place: Path) -> None:
    """Nothing of it is run: the module would end the process."""
    assert sorted(w for w in offered(line) if w != "dataset.") == sorted(wanted)


def test_everything_that_can_be_chosen_is_offered() -> None:
    for group in groups():
        assert [w.split("=")[1] for w in offered(f"fedfuse {group}=")] == list(option_files(group))
    assert set(COMMANDS) < set(offered("fedfuse "))
    assert set(CHOICES["--format"]) == set(SUFFIXES)


def test_words_that_comments_list_are_taken() -> None:
    """The comments of the configuration are where completion finds them."""
    tried = 0
    for group in groups():
        for name, page in options(group).items():
            parts = {key: value for key, value, _ in page.keys if "$" not in value}
            if page.target in (None, "null", "???") or "???" in parts.values():
                continue
            node = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
            inner = {  # a part of the part, which it cannot do without
                key: {"_target_": part["_target_"]}
                for key, part in node.items()
                if isinstance(part, dict) and "_target_" in part
            }
            for key, value, told in page.keys:
                for word in alternatives(value, told) if "." not in key else ():
                    if word in ("true", "false"):
                        continue
                    instantiate({"_target_": page.target, **inner, key: word}, f"{group}.{key}")
                    tried += 1
    assert tried > 30


@pytest.mark.parametrize("words", [["list", "method"], ["show", "scorer=knfu"], ["completion"]])
def test_nobody_waits_for_torch_or_hydra(words: list[str], tmp_path: Path) -> None:
    if words == ["completion"]:
        words = ["completion", "--answer", "fedfuse", "--", "method=mean", "partitioner.al"]
    code = (
        "import sys; from experiments.run import main; "
        f"assert main({words!r}) == 0; "
        "print(sorted({'torch', 'hydra', 'omegaconf', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.endswith("\n[]\n")


def test_a_real_bash_is_answered(place: Path) -> None:
    tries = {
        "fedfuse partitioner=dirichlet_i": "dirichlet_inner |",
        f"{BIN}/fedfuse method=local,krum": "local,krum |",
        "fedfuse scor": "scorer=|scorer.|",
        "fedfuse dataset.path=data/": "data/my\\ file.npz |",
        "fedfuse --help exper": "experiment=|",
        "fedfuse-report --format pd": "pdf |",
        "fedfuse list --config-dir ": "conf/|data/|",
        "fedfuse zzz": "",
    }
    asks = "".join(f"try '{line}'\n" for line in tries)
    script = (
        "set -u; source <(fedfuse completion bash)\n"
        'try() { COMP_LINE=$1 COMP_POINT=${#1}; read -ra COMP_WORDS <<< "$1"; '
        "complete -p ${COMP_WORDS[0]##*/} > /dev/null || exit 1; _fedfuse; "
        "printf '%s|' ${COMPREPLY[@]+\"${COMPREPLY[@]}\"}; echo; }\n" + asks
    )
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(place)},
    )
    assert done.stdout.splitlines() == [value or "|" for value in tries.values()]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_are_written_well(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(program in script for program in PROGRAMS)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "told"), [("", "bash, zsh, fish"), ("bsh", "Did you mean 'bash'?")]
)
def test_a_mistake_is_one_message(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", *words.split()]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_tells_of_itself_alike(program: str) -> None:
    done = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{program}: ")
    assert lines[-1].startswith(" ")  # an example
    assert max(map(len, lines)) <= 80
    for flag in ("--traceback", "--version"):
        told = [line.split(flag)[1].strip() for line in lines if line.startswith(f"  {flag} ")]
        assert told == [
            {
                "--traceback": "with an error show every frame that led to it",
                "--version": "print the version, and stop",
            }[flag]
        ]


def test_every_subcommand_has_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert main(["--help", command]) == 0
        assert capsys.readouterr().out == text
        assert text.startswith(f"fedfuse {command}: ")
        assert max(map(len, text.splitlines())) <= 80
        assert main([command, "--version"]) == 0
        assert capsys.readouterr().out.startswith("fedfuse ")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  fedfuse {command}" in text for command in COMMANDS)
