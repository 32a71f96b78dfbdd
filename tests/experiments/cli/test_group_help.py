"""``fedfuse --help WORD`` tells what the configuration itself says."""

from __future__ import annotations

import pytest

from experiments.cli.group_help import group_help
from experiments.config import compose
from experiments.config.folder import CONF
from experiments.config.overrides import groups
from experiments.run import main
from fedfuse.errors import ConfigError

GROUPS = sorted(
    folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name[0] != "_"
)


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_says_what_it_is(group: str) -> None:
    """An option without a line of its own would be a name that one has to guess."""
    text = group_help([group])
    assert max(map(len, text.splitlines())) <= 80
    for file in CONF.glob(f"{group}/*.yaml"):
        assert f"\n  {file.stem}: " in text, f"{file.name} does not say what it is"


def test_keys_come_with_their_defaults_and_comments() -> None:
    text = group_help(["scorer=knfu"])
    assert "scorer.beta: 3.0" in text
    assert "the plain mean" in " ".join(text.split())
    assert "uniform" not in text
    assert "sets scorer=uniform" in group_help(["dsfl"])


def test_experiments_say_what_they_ask_and_sweep_over() -> None:
    text = group_help(["experiment"])
    assert text.index("\n  k2: ") < text.index("\n  k10: ")
    assert "sweeps over partitioner.leak=0.3; method=mean, knfu" in " ".join(text.split())


def test_sections_and_single_keys() -> None:
    assert "client.batch_size: 32" in group_help(["client"])
    assert group_help(["num_rounds"]).strip().startswith("num_rounds: 10")
    assert "evaluation.test_samples" in group_help(["evaluation.test_samples"])


def test_a_key_of_a_group_is_told_of_each_option_that_has_it() -> None:
    text = group_help(["scorer.beta"])
    assert text.count("scorer.beta: ") == 3
    assert "\n  kta: " in text
    assert "scorer.gamma" not in text


def test_a_word_to_be_told_of_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """``client`` is nearly ``list``."""
    assert main(["--help", "client"]) == 0
    assert "client.batch_size: 32" in capsys.readouterr().out
    assert main(["--help", "map"]) == 2
    assert "Did you mean 'fedfuse-map'?" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "meant"), [("scorr", "scorer"), ("knfuu", "knfu")])
def test_an_unknown_word_is_a_mistake(word: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{meant}'"):
        group_help([word])


def test_an_unknown_option_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help", "scorer=knfuu"]) == 2
    assert "Did you mean 'knfu'?" in capsys.readouterr().err


def test_every_group_of_hydra_has_a_page() -> None:
    assert set(groups(compose.open_hydra().config_loader)) == set(GROUPS)


def test_name_names_a_run_and_is_a_plain_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "name=mine"]) == 0
    assert "name: mine" in capsys.readouterr().out
    assert main(["--cfg", "job", "name=../mine"]) == 2
    assert "got '../mine'" in capsys.readouterr().err
    assert main(["name=a", "method.name=b"]) == 2
    assert "given twice" in capsys.readouterr().err


def test_an_open_mapping_is_given_as_a_whole_or_by_its_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["partitioner.options={alpha:0.5}"], ["partitioner.options.alpha=0.5"]):
        assert main(["--cfg", "job", "partitioner=from_flower", *words]) == 0
        assert "options:\n    alpha: 0.5" in capsys.readouterr().out
    assert main(["partitioner=from_flower", "partitioner.options=[1]"]) == 2
    assert "holds several keys" in capsys.readouterr().err
