"""Whole experiments: what they fix, what they sweep over, and what a command line changes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.assembly.build_all import check_parts
from experiments.config import compose
from experiments.run import main

CONF = Path(__file__).parents[3] / "experiments" / "conf" / "experiment"
HYDRA = compose.open_hydra(None)
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))


def expanded(*lines: str, multirun: bool = True) -> list[str]:
    return compose.expand(HYDRA, list(lines), multirun=multirun)


def test_every_claim_has_one():
    assert {f"k{number}" for number in range(1, 13)} | {"guard", "none"} <= set(NAMES)
    assert {"frontier", *(f"frontier_{n}" for n in ("tiers", "attack", "public", "shift"))} <= set(
        NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_composes_and_its_parts_can_be_built(name: str) -> None:
    swept = expanded(f"experiment={name}")
    # The last value of each axis; its other values are options of the same groups.
    lines = [
        f"{key}={values.split(',')[-1].rstrip(')')}"
        for key, _, values in (x.partition("=") for x in swept)
    ]
    _, (cfg,) = compose.check(HYDRA, lines, multirun=False)
    check_parts(cfg)
    assert name == "none" or any(line.startswith(("seed=0,1,2", "seed=range(")) for line in swept)


def test_what_the_command_line_says_comes_first_and_once():
    swept = expanded("experiment=k3", "seed=7", "scorer.beta=1,2")
    assert swept == [
        *("partitioner.leak=0.0,0.3", "method=knfu"),
        *("experiment=k3", "seed=7", "scorer.beta=1,2"),
    ]
    _, configs = compose.check(HYDRA, swept, multirun=True)
    assert [(cfg.seed, cfg.scorer.beta, cfg.partitioner.leak) for cfg in configs] == [
        (7, 1, 0.0),
        (7, 2, 0.0),
        (7, 1, 0.3),
        (7, 2, 0.3),
    ]
    assert all(cfg.partitioner.samples == 300 for cfg in configs)


def test_a_fixed_value_of_an_experiment_gives_way_to_the_command_line():
    lines = expanded(
        "experiment=k3", "num_rounds=9", "seed=0", "scorer.beta=3", "partitioner.leak=0"
    )
    _, (cfg,) = compose.check(HYDRA, lines, multirun=True)
    assert cfg.num_rounds == 9


def test_mistakes_are_told_before_anything_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["experiment=k3"]) == 2
    assert "experiment=k3 is a sweep over partitioner.leak" in capsys.readouterr().err
    assert main(["-m", "experiment=k3,k4"]) == 2
    assert "names several experiments" in capsys.readouterr().err
    assert main(["-m", "experiment=k33"]) == 2
    assert "Did you mean 'k3'?" in capsys.readouterr().err
    assert main(["-m", "experiment=k3", "method=Mean"]) == 2
    assert "no 'Mean' in group 'method'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_experiment_of_ones_own_runs_each_of_its_values_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "small.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /dataset: synthetic\n  - override /model: mlp\n"
        "num_rounds: 1\nnum_clients: 2\nwarmup_rounds: 0\n"
        "hydra:\n  sweeper:\n    params:\n      method: mean,local\n      seed: 0,1\n"
    )
    line = ["-m", "--config-dir", "mine", "experiment=small", "seed=3", "hydra.sweep.dir=out"]
    assert main(line) == 0
    assert "run 2 of 2: " in capsys.readouterr().out
    assert {path.name for path in Path("out").iterdir() if not path.name.startswith(".")} == {
        "0-mean-seed3",
        "1-local-seed3",
    }
