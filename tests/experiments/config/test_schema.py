"""The ranges of the scalar keys, one step to either side of each border."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from experiments.config import compose
from experiments.config.schema import ExperimentConfig, key_type, validate
from fedfuse.errors import ConfigError


@pytest.fixture(scope="module")
def default() -> DictConfig:
    _, [cfg] = compose.check(compose.open_hydra(), [], multirun=False)
    return cfg


GOOD = [
    ("seed", 0),
    ("seed", 2**63 - 1),
    ("num_clients", 1),
    ("warmup_rounds", 0),
    ("temperature", 1e-3),
    ("val_fraction", 0.0),
    ("val_fraction", 0.999),
    ("test_fraction", 0.001),
    ("client.private_weight", 0.0),
    ("client.optimizer_state", "reset"),
    ("server.device", "cuda:1"),
    ("evaluation.every", 1),
]
BAD = [
    ("seed", -1),
    ("seed", 2**63),
    ("num_clients", 0),
    ("num_rounds", 0),
    ("warmup_rounds", -1),
    ("temperature", 0.0),
    ("temperature", 1e-7),
    ("temperature", 1e7),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("val_fraction", -0.1),
    ("val_fraction", 1.0),
    ("val_fraction", math.nan),
    ("test_fraction", 0.0),
    ("test_fraction", 1.0),
    ("budget", "steps"),
    ("client.batch_size", 0),
    ("client.local_epochs", 0),
    ("client.private_weight", -0.1),
    ("client.private_weight", math.inf),
    ("client.init", "Shared"),
    ("client.threads", 0),
    ("server.device", "cuda:"),
    ("evaluation.every", 0),
    ("evaluation.batch_size", 0),
    ("evaluation.resting", "some"),
    ("evaluation.resting", True),
    ("evaluation.resting_every", 0),
    ("evaluation.resting_every", -1),
    ("evaluation.resting_sample", 0),
]


def changed(default: DictConfig, key: str, value: Any) -> DictConfig:
    cfg = default.copy()
    OmegaConf.update(cfg, key, value)
    return cfg


def test_the_defaults_are_valid(default: DictConfig) -> None:
    validate(default)


@pytest.mark.parametrize(("key", "value"), GOOD)
def test_accepts(default: DictConfig, key: str, value: Any) -> None:
    validate(changed(default, key, value))


@pytest.mark.parametrize(("key", "value"), BAD)
def test_refuses(default: DictConfig, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is not valid: got .*, allowed: "):
        validate(changed(default, key, value))


def test_a_sample_is_of_clients_that_there_are(default: DictConfig) -> None:
    sample = changed(default, "evaluation.resting", "sample")
    with pytest.raises(ConfigError, match=r"resting_sample=100 with num_clients=10.*1 to 10"):
        validate(sample)
    validate(changed(sample, "evaluation.resting_sample", 10))
    validate(changed(default, "evaluation.resting_sample", 1000))  # which nobody asks for


def test_warmup_must_leave_a_round_for_fusion(default: DictConfig) -> None:
    cfg = changed(changed(default, "warmup_rounds", 3), "num_rounds", 3)
    with pytest.raises(ConfigError, match="num_rounds=4"):
        validate(cfg)
    validate(changed(cfg, "num_rounds", 4))
    cfg.rule._target_ = None  # nothing to fuse, nothing to warm up for
    validate(cfg)


def test_every_key_has_a_default(default: DictConfig) -> None:
    assert {str(key) for key in default if key != "hydra"} == {
        f.name for f in fields(ExperimentConfig)
    }


def test_key_type() -> None:
    assert key_type("client.private_weight") is float
    assert key_type("client") is None
    assert key_type("client.nothing") is None
    assert key_type("scorer.beta") is None


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("seed", "2026", "an integer"),
        ("seed", 0.5, "an integer"),
        ("seed", True, "an integer"),
        ("client.clip_norm", "1", "a number"),
        ("server.fail_fast", 1, "true or false"),
        ("continue_from", 5, "text"),
    ],
)
def test_what_an_interpolation_brings_is_of_the_keys_type(default, key, value, what):
    cfg: Any = OmegaConf.to_container(compose.own_keys(default), resolve=True)
    *owners, name = key.split(".")
    node: Any = cfg
    for owner in owners:
        node = node[owner]
    node[name] = value
    with pytest.raises(ConfigError, match=f"{key} must be {what}, got"):
        validate(cfg)


def test_words_for_a_number_are_told_so_where_null_is_allowed_too():
    for key in ("client.clip_norm", "client.local_steps"):
        with pytest.raises(ConfigError, match=f"{key} must be an? .*, got 'abc'"):
            compose.check(compose.open_hydra(), [f"{key}=abc"], multirun=False)
