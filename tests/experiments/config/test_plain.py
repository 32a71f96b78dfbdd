"""Plain values and YAML are what OmegaConf makes of a configuration, to the byte."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config import compose
from experiments.config.plain import as_yaml, complete, plain, settings
from fedfuse.errors import ConfigError


class Colour(enum.Enum):
    """A value that YAML does not know."""

    RED = 1


WHOLE = {
    "method=knfu": compose.configure(["method=knfu"]),
    "interpolated": compose.own_keys(
        compose.check(compose.open_hydra(), ["method=ktpfl", "model=tiers"], multirun=False)[1][0]
    ),
    "odd": OmegaConf.create(
        {
            "none": None,
            "list": [1, 2.0, True, "on", "1e3", [], {}, {"b": "${number}"}],
            "escaped": r"\${list}",
            "mixed": "a ${number} b",
            "number": float("inf"),
            "deep": {"er": "${deep.est}", "est": {1: "é\n# x", "yes": "no"}},
            "missing": "???",
            "colour": Colour.RED,
        }
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_it_is_what_omegaconf_makes(name: str) -> None:
    cfg: Any = WHOLE[name]
    wanted: Any = OmegaConf.to_container(cfg, resolve=True)
    assert repr(plain(cfg)) == repr(wanted)
    for key in cfg:
        if OmegaConf.is_config(node := cfg._get_node(key)):
            assert repr(plain(node)) == repr(wanted[key])
    for _ in range(2):  # a second time from what was written before
        assert as_yaml(cfg) == OmegaConf.to_yaml(cfg, resolve=True)


def test_equal_numbers_are_written_as_they_are() -> None:
    assert [as_yaml(OmegaConf.create({"a": value})) for value in (1, 1.0, True, "1")] == [
        "a: 1\n",
        "a: 1.0\n",
        "a: true\n",
        "a: '1'\n",
    ]


@pytest.mark.parametrize("held", [{"a": "???"}, {"a": "${b}"}, {"a": "${a}"}])
def test_what_is_not_there_is_told_in_the_same_words(held: dict[str, str]) -> None:
    cfg = OmegaConf.create(held)
    with pytest.raises(OmegaConfBaseException) as theirs:
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    with pytest.raises(type(theirs.value)) as ours:
        plain(cfg, throw_on_missing=True)
    assert str(ours.value) == str(theirs.value)
    with pytest.raises(ConfigError, match=r"^rule: "):
        complete(cfg, "rule")


def test_settings_answer_as_the_configuration_does() -> None:
    cfg = WHOLE["method=knfu"]
    assert isinstance(cfg, DictConfig)
    asked = settings(cfg)
    assert asked == OmegaConf.to_container(cfg)
    assert asked.scorer._target_ == cfg.scorer._target_
    with pytest.raises(AttributeError, match="nothing"):
        _ = asked.scorer.nothing


def test_own_keys_are_a_copy_of_all_but_hydras() -> None:
    _, (whole,) = compose.check(compose.open_hydra(), ["method=knfu", "seed=3"], multirun=False)
    own = compose.own_keys(whole)
    theirs = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    assert OmegaConf.to_yaml(own) == OmegaConf.to_yaml(theirs)
    own.temperature = 3.0
    assert own.scorer.temperature == 3.0  # an interpolation leads to the copy's own key
    assert whole.temperature == 1.0
    assert whole.hydra.job.name == "fedfuse"
