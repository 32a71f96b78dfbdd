"""Packaged files are read once, a user's own each time, and what is composed is what Hydra says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.config import compose, remembered


def composed(*lines: str, own: Path | None = None, as_hydra: bool = False) -> DictConfig:
    hydra = compose.open_hydra(own)
    if as_hydra:
        hydra.config_loader = ConfigLoaderImpl(hydra.config_loader.config_search_path)
    return hydra.compose_config("config", list(lines), run_mode=RunMode.RUN)


@pytest.mark.parametrize("line", ["method=fedmd_adjusted", "experiment=k3", "hydra/launcher=basic"])
def test_it_is_what_hydra_composes(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    composed(line)  # now all is remembered
    quick = composed(line)
    known_choices = remembered._known_choices
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", known_choices)
    theirs = composed(line, as_hydra=True)
    assert OmegaConf.to_yaml(quick) == OmegaConf.to_yaml(theirs)
    assert list(quick) == list(theirs)


def test_a_packaged_file_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    composed("method=mean")
    monkeypatch.setattr(OmegaConf, "load", lambda _: pytest.fail("it was read before"))
    assert composed("method=mean", "seed=1").method.name == "mean"


def test_a_file_of_ones_own_is_read_each_time(tmp_path: Path) -> None:
    (tmp_path / "partitioner").mkdir()
    file = tmp_path / "partitioner" / "mine.yaml"
    for towns in (3, 4):
        file.write_text(f"_target_: mine.by_city\ntowns: {towns}\n")
        assert composed("partitioner=mine", own=tmp_path).partitioner.towns == towns


def test_an_interpolated_default_knows_the_choices(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /scorer: ${method}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    cfg = composed("experiment=mine", "method=knfu", own=tmp_path)
    assert cfg.hydra.runtime.choices.scorer == "knfu"


def test_a_word_is_parsed_once_and_each_caller_may_change_its_own() -> None:
    parser = OverridesParser.create()
    before = remembered._parsed.cache_info().misses
    first, second = (parser.parse_overrides(["some.key=[1,2]"])[0] for _ in range(2))
    assert remembered._parsed.cache_info().misses == before + 1
    first.value().append(3)
    assert second.value() == [1, 2]
    assert remembered._parsed("some.key=[1,2]", "override").value() == [1, 2]
