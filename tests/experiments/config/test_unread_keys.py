"""Keys that nothing reads are refused, whichever file or message they come in."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.config import compose
from experiments.flower import config_of
from experiments.map.command import main as draw
from experiments.run import main
from fedfuse.errors import ConfigError

FILES = {
    "experiment/a": ("client: {lr_decay: 0.9}", "client has no parameter 'lr_decay'"),
    "experiment/b": ("num_client: 3", "Did you mean 'num_clients'?"),
    "experiment/c": ("method: {beta: 5}", "method has no parameter 'beta'"),
    "experiment/d": ("engine: {num_node: 5}", "Did you mean 'num_nodes'?"),
    "experiment/e": ("rule: {temprature: 5}", "Did you mean 'temperature'?"),
    "experiment/f": (
        "hydra: {sweeper: {params: {client.batch_sise: '1,2'}}}",
        "client has no parameter 'batch_sise'",
    ),
    "experiment/g": ("privacy: {epsilon: 1}", "privacy=none has no parameter 'epsilon'"),
    "partitioner/h": ("_target_: fedfuse.partition.Dirichlet\nalhpa: 1", "Did you mean 'alpha'?"),
    "partitioner/i": ("alpha: 1", "the option of the group 'partitioner' names no part"),
    "engine/j": ("name: serial\nnum_nodes: 1\nfoo: 1", "engine=serial has no parameter 'foo'"),
    "mine/k": ("bar: 1", "there is no key or group 'mine'"),
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_with_a_key_that_nothing_reads(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text, words = FILES[file]
    group, option = file.split("/")
    path = tmp_path / "conf" / f"{file}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(("# @package _global_\n" if group == "experiment" else "") + text)
    chosen = f"{'+' if group == 'mine' else ''}{group}={option}"
    argv = ["--config-dir", str(tmp_path / "conf"), chosen]
    assert main([*argv, "-m"] if "sweeper" in text else argv) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["conf"]


def test_what_flower_sends_is_checked_alike() -> None:
    with pytest.raises(ConfigError, match="no key or group 'num_round'"):
        config_of({"num-round": 3})
    with pytest.raises(ConfigError, match="client has no parameter 'lr_decay'"):
        config_of({"overrides": "+client.lr_decay=0.9"})
    _, [cfg] = compose.check(compose.open_hydra(), [], multirun=False)
    whole = OmegaConf.masked_copy(cfg, [key for key in map(str, cfg) if key != "hydra"])
    text = OmegaConf.to_yaml(whole, resolve=True)
    assert config_of({"config": text, "num-rounds": "", "output": "out"}).num_rounds == 10
    with pytest.raises(ConfigError, match="would not be read: got num-rounds"):
        config_of({"config": text, "num-rounds": 3})
    with pytest.raises(ConfigError, match="client has no parameter 'lr_decay'"):
        config_of({"config": text.replace("client:\n", "client:\n  lr_decay: 0.9\n")})
    with pytest.raises(ConfigError, match="is no YAML"):
        config_of({"config": "a: ["})


def test_a_map_checks_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for line, words in (("+client.lr_decay=0.9", "'lr_decay'"), ("+map.colour=1", "'map.colour'")):
        assert draw([line]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
