"""What is composed from choices made before is what Hydra composes, down to its flags."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from experiments.config import choices, compose

HYDRA = compose.open_hydra()


def nodes(node, path=""):
    """Return of every mapping its flags and types."""
    about = node._metadata
    found = {path: (dict(about.flags or {}), about.object_type, about.ref_type)}
    if OmegaConf.is_dict(node) and not node._is_none() and not node._is_missing():
        for key, value in node.items_ex(resolve=False):
            found |= nodes(value, f"{path}.{key}") if OmegaConf.is_config(value) else {}
    return found


@pytest.mark.parametrize(
    "line",
    [
        "",
        "method=knfu seed=3 model=mlp client.batch_size=4 hydra.run.dir=x",
        "partitioner=from_flower ++partitioner.options.alpha=1",
        "seed=1 ~num_clients method=fedmd +partitioner.more={a:[1,2]}",
        "hydra.job.name=other seed=2",
    ],
)
def test_it_is_what_hydra_composes(line, tmp_path, monkeypatch):
    lines = line.split()
    choices.composed(HYDRA, [word.replace("seed=", "num_rounds=") for word in lines])
    monkeypatch.chdir(tmp_path)
    mine = choices.composed(HYDRA, lines)
    hydras = HYDRA.compose_config("config", lines, run_mode=RunMode.RUN)
    assert OmegaConf.to_yaml(mine) == OmegaConf.to_yaml(hydras)
    assert nodes(mine) == nodes(hydras)


def test_a_mistake_is_hydras_and_leaves_the_choices_as_they_were():
    before = OmegaConf.to_yaml(choices.composed(HYDRA, ["seed=5"]))
    for line in ("no.such=1", "num_clients=ten", "method=nobodys"):
        with pytest.raises(HydraException):
            choices.composed(HYDRA, [line])
    assert OmegaConf.to_yaml(choices.composed(HYDRA, ["seed=5"])) == before


def test_an_option_of_ones_own_may_change_between_two_commands(tmp_path: Path):
    file = tmp_path / "partitioner" / "mine.yaml"
    file.parent.mkdir()
    for text in ("first", "second"):
        file.write_text(f"_target_: mine.{text}\n")
        cfg = choices.composed(compose.open_hydra(tmp_path), ["partitioner=mine"])
        assert cfg.partitioner._target_ == f"mine.{text}"
