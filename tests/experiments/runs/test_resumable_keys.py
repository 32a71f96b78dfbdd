"""Every key of the configuration says whether it may change when a run is resumed."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.config import compose
from experiments.config.folder import CONF
from experiments.config.former_names import GUARDS, NEWER, as_today
from experiments.config.schema import ExperimentConfig
from experiments.config.unread_keys import engine_options
from experiments.runs.resumable_keys import DECLARED, May, declared, device, identity, leaves, may


def every_key() -> set[str]:
    """Return the dotted keys of the schema and of every option of every group."""
    keys = set()
    types = get_type_hints(ExperimentConfig)
    for entry in fields(ExperimentConfig):
        kind = types[entry.name]
        keys |= (
            {f"{entry.name}.{inner.name}" for inner in fields(kind)}
            if is_dataclass(kind)
            else set()
            if kind is Any
            else {entry.name}
        )
    for file in CONF.glob("*/*.yaml"):
        text = file.read_text()
        if file.parent.name == "probe":  # its options are written out in evaluation.probes
            continue
        if "@package _global_" not in text:
            for key, _ in leaves(yaml.safe_load(text) or {}):
                if not key.startswith("defaults"):
                    keys.add(f"{file.parent.name}.{key}")
    return keys


def test_every_key_is_declared_by_itself_or_by_its_group() -> None:
    keys = every_key()
    assert len(keys) > 150
    assert sorted(key for key in keys if declared(key) is None) == []
    # A section whose keys are not all alike names each of them, so that a new one must be named.
    for section in ("client", "server", "checkpoint", "evaluation", "engine"):
        assert section not in DECLARED
    assert declared("server.newest") is None
    assert may("server.newest") is May.STAY
    known = {key.split(".")[0] for key in keys} | keys
    assert sorted(key for key in DECLARED if key not in known) == []
    assert {f"engine.{key}" for keys in engine_options().values() for key in keys} <= set(DECLARED)


def test_a_guard_counts_as_when_it_was_a_key_of_the_client(cfg: Any) -> None:
    """Checkpoints of older runs name client.guard; what was no option then has a key of its own."""
    for word, node in GUARDS.items():
        now = OmegaConf.merge(cfg, {})
        now.guard = node
        found = identity(now, "data")
        assert found["client.guard"] == f'"{word}"'
        assert not any(key.startswith("guard") for key in found)
        old = {"client": {"guard": word, "threads": 1}}
        assert as_today(old)["guard"] == node
        assert as_today(old)["client"] == {**NEWER["client"], "threads": 1}
    now.guard = {"_target_": "fedfuse.guard.Sequential", "alpha": 0.05}
    assert identity(now, "data")["guard.alpha"] == "0.05"


@pytest.fixture(scope="module")
def cfg() -> Any:
    _, [whole] = compose.check(compose.open_hydra(), ["dataset=synthetic"], multirun=False)
    return OmegaConf.masked_copy(whole, [key for key in map(str, whole) if key != "hydra"])


def test_a_fixed_key_is_in_the_identity_and_a_free_one_is_not(cfg: Any) -> None:
    before = identity(cfg, "data")
    for key, value in leaves(OmegaConf.to_container(cfg, resolve=True)):
        if not isinstance(value, bool | int | float) or key.endswith("device"):
            continue
        changed = cfg.copy()
        OmegaConf.update(changed, key, not value if isinstance(value, bool) else value + 1)
        if key in ("seed", "temperature", "prior.tau", "prior.floor"):  # parts follow them
            continue
        differing = {k for k, v in identity(changed, "data").items() if before.get(k) != v}
        assert differing == ({key} if may(key) is May.STAY else set()), key
    assert identity(cfg, "other")["(the data)"] != before["(the data)"]


def test_a_prior_is_a_key_of_those_who_use_it(cfg: Any) -> None:
    before = identity(cfg, "data")
    named = ("prior.tau", "prior.floor", "evaluation.prior", "local_loss._target_")
    assert not before.keys() & set(named)  # as in checkpoints that know nothing of it
    user = cfg.copy()
    user.evaluation.prior = "add"
    assert before.keys() ^ identity(user, "data").keys() == {*named} - {"local_loss._target_"}
    user.prior.tau = 0.5
    assert identity(user, "data")["prior.tau"] == "0.5"


def test_the_kind_of_device_counts_not_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device("cuda:1") == device("cuda") == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device("auto") == "cuda"
    ray = {"name": "ray", "gpus_per_node": 0}
    assert device("auto", ray) == "cpu"
    assert device("auto", {**ray, "gpus_per_node": 0.5}) == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device("auto") == "cpu"
