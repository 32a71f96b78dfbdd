"""Frozen features are data: the same run on two nodes, broken off and resumed, alone or fused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import fedfuse
from experiments.assembly.parts import build_data
from experiments.config import compose
from experiments.runs.lifecycle import open_run, perform
from experiments.runs.resume import reopen_run
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import FedfuseError
from server import loop

SYNTHETIC = "fedfuse.data.sources.synthetic.synthetic"
THREE = "num_clients=3"
WORDS = ["dataset=synthetic", "dataset.num_train=200", "dataset.num_test=60", "public.size=20"]
WORDS += ["client.batch_size=8", "num_rounds=2", "warmup_rounds=0"]
WORDS += ["baseline=none", "evaluation.test_samples=50", "models=save"]


class Halves(torch.nn.Module):
    """Means of the upper and the lower half of each column."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([half.mean(dim=2).flatten(1) for half in inputs.chunk(2, dim=2)], dim=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


def run(folder: Path, *words: str) -> Path:
    perform(open_run(compose.configure([*WORDS, THREE, *words]), folder, []))
    return folder


def numbers(folder: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = pq.read_table(folder / "metrics.parquet").to_pydict()
    return found


@pytest.fixture
def broken(monkeypatch) -> Callable[..., Path]:
    """Return what runs and breaks off in its second round."""

    def interrupt(round_: int, *args: object, **named: object):
        if round_ == 2:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    real = loop.record

    def off(folder: Path, *words: str) -> Path:
        with monkeypatch.context() as patched:
            patched.setattr(loop, "record", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(folder, *words)
        return folder

    return off


def test_broken_off_and_resumed_on_two_nodes_it_is_the_same_run(tmp_path, broken):
    unbroken = run(tmp_path / "whole", "features=random")
    folder = broken(tmp_path / "broken", "features=random", "engine.num_nodes=2")
    for kept in (tmp_path / "cache").iterdir():  # computed once more, to the bit
        kept.rename(tmp_path / kept.name)
    perform(reopen_run(folder, [f"resume={folder}"], compose.open_hydra()))
    assert numbers(folder) == numbers(unbroken)
    assert numbers(unbroken) != numbers(
        run(tmp_path / "other", "features=random", "features.seed=1")
    )


def test_a_run_does_not_go_on_with_other_features(tmp_path, broken):
    torch.save(torch.nn.Linear(8, 5).state_dict(), tmp_path / "w.pt")
    module = ["features.module._target_=torch.nn.Linear", "+features.module.in_features=8"]
    module += ["+features.module.out_features=5", f"features.weights_file={tmp_path / 'w.pt'}"]
    folder = broken(tmp_path / "run", *module)
    kept = (tmp_path / "w.pt").read_bytes()
    torch.save(torch.nn.Linear(8, 5).state_dict(), tmp_path / "w.pt")
    again = [f"resume={folder}", module[0]]
    with pytest.raises(FedfuseError, match=r"(?i)\bdata\b"):
        perform(reopen_run(folder, again, compose.open_hydra()))
    (tmp_path / "moved.pt").write_bytes(kept)
    there = [*again, f"features.weights_file={tmp_path / 'moved.pt'}"]
    perform(reopen_run(folder, there, compose.open_hydra()))
    assert len(set(numbers(folder)["round"])) == 2


def test_sites_and_another_public_set_get_the_same_features(tmp_path):
    for site in range(2):
        raw = synthetic(num_train=90, num_test=30, seed=site)
        x, y = raw.train.inputs, raw.train.labels
        np.savez(tmp_path / f"{site}.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    paths = ",".join(f"'{tmp_path / f'{site}.npz'}'" for site in range(2))
    words = ["features=random", "sites=own", f"sites.paths=[{paths}]", "num_clients=2"]
    cfg = compose.configure([*WORDS, "public=external", *words])
    cfg.public.dataset = {"_target_": SYNTHETIC, "channels": 3, "seed": 7, "num_train": 200}
    data = build_data(cfg)
    assert data.public.inputs.shape == (20, 512)
    assert data.public.inputs.dtype == np.float32
    assert data.train.inputs.shape[1:] == (512,) == data.test.inputs.shape[1:]


def test_a_public_set_of_another_modality_is_refused_before_its_features():
    cfg = compose.configure([*WORDS, "features=random", "public=external"])
    cfg.public.dataset = {"_target_": "fedfuse.data.sources.breast_cancer.breast_cancer"}
    with pytest.raises(FedfuseError, match="The public data of breast_cancer cannot be matched"):
        build_data(cfg)


def test_from_python_a_module_is_all_it_takes(tmp_path):
    by_class, by_module = (
        fedfuse.simulate(*WORDS, THREE, features=given, progress=False, out=tmp_path / str(number))
        for number, given in enumerate((Halves, Halves()))
    )
    assert by_class.model(0)(torch.zeros(2, 16)).shape == (2, 10)
    assert by_class.metrics.equals(by_module.metrics)


def test_what_shifts_pixels_is_refused_after_them():
    with pytest.raises(FedfuseError, match="feature_noise changes images"):
        build_data(compose.configure([*WORDS, "features=random", "partitioner=feature_noise"]))
