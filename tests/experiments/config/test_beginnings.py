"""What is merged on top of a beginning that was kept is what Hydra merges, down to its flags."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.config import beginnings, compose
from tests.experiments.config.test_choices import nodes

HYDRA = compose.open_hydra()
SINGLE = ConfigLoaderImpl._load_single_config


def merged(*lines: str, loader: ConfigLoaderImpl | None = None) -> DictConfig:
    loader = loader or HYDRA.config_loader
    return loader.load_configuration("config", list(lines), RunMode.RUN)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(beginnings, "_kept", {})
    monkeypatch.setattr(beginnings, "_last", [()])


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Return the files that are merged from here on."""
    found: list[str] = []

    def single(self, default, repo):
        found.append(default.config_path)
        return SINGLE(self, default, repo)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_single_config", single)
    return found


def test_it_is_what_hydra_merges_and_what_bundles_share_is_merged_once(read):
    plain = ConfigLoaderImpl(HYDRA.config_loader.config_search_path)
    for method in ("mean", "fd", "fedmd_adjusted", "knfu", "mean"):
        mine, theirs = merged(f"method={method}"), merged(f"method={method}", loader=plain)
        assert OmegaConf.to_yaml(mine) == OmegaConf.to_yaml(theirs)
        assert list(mine) == list(theirs)
        assert nodes(mine) == nodes(theirs)
    assert beginnings._kept
    read.clear()
    merged("method=dkd")
    assert read
    assert not {"config", "hydra/config", "features/none"} & set(read)


def test_what_is_done_to_one_configuration_is_seen_in_no_other(read):
    merged("method=mean")
    before = OmegaConf.to_yaml(merged("method=fd"))
    for _ in range(2):
        changed = merged("method=fd")
        OmegaConf.set_struct(changed, False)
        changed.seed, changed.model.more = 7, 1
    assert OmegaConf.to_yaml(merged("method=fd")) == before


def test_another_choice_early_in_the_list_is_not_another_beginning():
    for data in ("synthetic", "mnist5k"):
        for method in ("mean", "fd"):
            cfg = merged(f"method={method}", f"dataset={data}")
            assert ("image_size" in cfg.dataset) == (data == "synthetic")


def test_there_is_an_end_to_what_is_kept(monkeypatch):
    monkeypatch.setattr(beginnings, "KEPT", 1)
    for line in ("method=mean", "method=fd", "model=mlp", "model=cnn2", "method=fedmd"):
        assert merged(line)
    assert len(beginnings._kept) == 1


def test_a_file_that_does_not_fit_is_named_as_hydra_does(monkeypatch):
    merged("method=mean")
    merged("method=fd")

    def wrong(self, default, repo):
        found = SINGLE(self, default, repo)
        if default.config_path == "method/knfu":
            found.config = OmegaConf.create({"seed": "many"})
        return found

    monkeypatch.setattr(ConfigLoaderImpl, "_load_single_config", wrong)
    with pytest.raises(HydraException, match="In 'method/knfu'"):
        merged("method=knfu")


def test_with_a_folder_of_ones_own_nothing_is_kept(tmp_path: Path):
    (tmp_path / "partitioner").mkdir()
    file = tmp_path / "partitioner" / "mine.yaml"
    loader = compose.open_hydra(tmp_path).config_loader
    for towns in (3, 4):
        file.write_text(f"_target_: mine.by_city\ntowns: {towns}\n")
        assert merged("partitioner=mine", loader=loader).partitioner.towns == towns
    assert not beginnings._kept
