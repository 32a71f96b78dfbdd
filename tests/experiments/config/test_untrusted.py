"""Configurations of strangers are data: they name no code that the user did not."""

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.config import compose
from experiments.config.former_names import NEWER
from experiments.config.untrusted import check_targets, read_config, shipped_targets
from experiments.run import main
from fedfuse.errors import ConfigError


def test_every_default_is_trusted():
    _, [cfg] = compose.check(compose.open_hydra(), [], multirun=False)
    config = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [k for k in cfg if k != "hydra"]))
    check_targets(config, "it")
    assert "fedfuse.privacy.Gaussian" in shipped_targets()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.hub.load",
        "fedfuse.types.torch.hub.load",
        "fedfuse.privacy.Gaussian.__init__",
        "builtins.eval",
        "my_module.by_halves",
    ],
)
def test_strange_code_is_refused_wherever_it_is_named(target):
    for config in (
        {"partitioner": {"_target_": target}},
        {"rule": {"_target_": "fedfuse.fusion.MeanProbs", "inner": [{"_target_": target}]}},
    ):
        with pytest.raises(ConfigError, match="not run unasked"):
            check_targets(config, "FOLDER/config.yaml")


def test_what_the_user_names_again_is_trusted():
    config = {"partitioner": {"_target_": "my_module.by_halves"}}
    check_targets(config, "it", own=["my_module.by_halves"])
    with pytest.raises(ConfigError, match=r"add partitioner._target_=my_module.by_halves"):
        check_targets(config, "it", own=["my_module.other"])


def test_resuming_a_strangers_run_imports_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("open('PWNED', 'w').close()\ndef f(*a): ...\n")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text('{"status": "running", "seed": 0}')
    (folder / "config.yaml").write_text("partitioner: {_target_: evil.f}\n")
    assert main([f"resume={folder}"]) == 2
    assert not (tmp_path / "PWNED").exists()
    assert main([f"resume={folder}", "partitioner._target_=evil.g"]) == 2
    assert not (tmp_path / "PWNED").exists()


LAUGHS = "a: &a [x, x]\n" + "\n".join(
    f"{name}: &{name} [*{last}, *{last}]" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch PWNED']",
        "a: !!python/name:os.system",
        LAUGHS,
        "a: ${oc.env:HOME}",
        "- 1",
        "",
        "a: [",
        "[" * 5000,
        "x" * (2**20 + 1),
        "\x00",
    ],
    ids=range(10),
)
def test_what_is_no_plain_configuration_is_refused_and_never_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)
    assert not (tmp_path / "PWNED").exists()


def test_a_configuration_that_fedfuse_wrote_is_read(tmp_path):
    config = {"seed": 3, "rule": {"_target_": "fedfuse.fusion.MeanProbs"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert read_config(tmp_path) == config | NEWER
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path, "missing.yaml")
