"""``protocol=paper``: the authors' settings stand behind what the command line says."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from experiments.config import compose
from experiments.config.protocols import papers, settings, under_protocol
from experiments.run import main
from experiments.runs.prepare import prepare
from fedfuse.errors import ConfigError

NAMED = ["cfd", "dsfl", "fedaux", "feddf", "fedmd", "ktpfl", "scarlet", "selective_fd"]


def composed(*words: str) -> DictConfig:
    return compose.configure(list(words))


def test_eight_methods_have_one_and_all_of_them_can_run() -> None:
    assert list(papers()) == NAMED
    for method in NAMED:
        _, (cfg,) = prepare(compose.open_hydra(), [f"method={method}", "protocol=paper"])
        assert cfg.method.name == f"{method}_paper"
        for key, value in settings(method).items():
            plain = (
                {k: v for k, v in value.items() if k != "option"}
                if isinstance(value, dict)
                else value
            )
            found = OmegaConf.select(cfg, key)
            told = OmegaConf.to_container(found) if isinstance(found, DictConfig) else found
            assert told == plain or plain.items() <= told.items(), (method, key)


def test_every_value_says_where_it_was_read() -> None:
    for method, file in papers().items():
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("#") or line.endswith(":"):
                continue
            assert any(f"# {word}" in line for word in ("code", "third", "ours")), (method, line)


def test_fedmds_are_the_numbers_of_its_code() -> None:
    cfg = composed("method=fedmd", "protocol=paper")
    assert (cfg.client.local_epochs, cfg.client.batch_size, cfg.client.distill_batch_size) == (
        4,
        5,
        256,
    )
    assert (cfg.pretrain.epochs, cfg.pretrain.patience, cfg.pretrain.private_epochs) == (20, 3, 25)
    assert (cfg.client.optimizer_state, cfg.client.private_weight) == ("separate", 0.0)


def test_every_first_round_exchanges() -> None:
    assert {settings(method)["warmup_rounds"] for method in NAMED} == {0}


def test_uniform_is_the_method_as_it_is() -> None:
    plain = OmegaConf.to_container(composed("method=fedmd"))
    assert OmegaConf.to_container(composed("method=fedmd", "protocol=uniform")) == plain


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("client.local_epochs=2", "client.local_epochs", 2),
        ("select=all", "select", {"_target_": "fedfuse.select.All"}),
        ("select.fraction=0.25", "select.fraction", 0.25),
        ("name=mine", "method.name", "mine"),
        ("optimizer._target_=torch.optim.SGD", "optimizer", {"_target_": "torch.optim.SGD"}),
    ],
)
def test_what_the_command_line_says_wins(word: str, key: str, value: object) -> None:
    assert OmegaConf.select(composed("method=fedmd", "protocol=paper", word), key) == value


def test_a_method_without_one_is_refused_with_those_that_have() -> None:
    for words in (["method=mean"], []):
        with pytest.raises(ConfigError, match="has no protocol=paper") as told:
            composed(*words, "protocol=paper")
        assert all(name in str(told.value) for name in NAMED)


def test_a_sweep_over_both_gives_each_its_own() -> None:
    words = ["method=fedmd,dsfl", "protocol=uniform,paper"]
    _, configs = compose.check(compose.open_hydra(), words, multirun=True)
    assert [cfg.method.name for cfg in configs] == ["fedmd", "fedmd_paper", "dsfl", "dsfl_paper"]
    assert [cfg.client.local_epochs for cfg in configs] == [1, 4, 1, 5]


def test_a_launcher_that_composes_by_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.runs.prepare.launched_elsewhere", lambda _: True)
    with pytest.raises(ConfigError, match="a launcher composes runs by itself"):
        prepare(compose.open_hydra(), ["method=fedmd", "protocol=paper"], multirun=True)


def test_show_and_the_run_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "method=fedmd", "protocol=paper"]) == 0
    assert "client.distill_batch_size" in capsys.readouterr().out
    assert under_protocol(["method=fedmd", "protocol=uniform"]) == [
        "method=fedmd",
        "protocol=uniform",
    ]


def test_the_digests_rate_wants_an_optimiser_of_its_own() -> None:
    with pytest.raises(ConfigError, match="distill_lr is the learning rate of distillation's"):
        composed("client.distill_lr=0.1")
    cfg = composed("client.distill_lr=0.1", "client.optimizer_state=separate")
    assert cfg.client.distill_lr == 0.1
