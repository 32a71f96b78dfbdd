"""dataset=domains as a run: by name and by path, on two nodes, resumed, with features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import fedfuse
from experiments.assembly.parts import build_data
from experiments.cli.partition import deal
from experiments.config import compose
from experiments.runs.lifecycle import open_run, perform
from experiments.runs.resume import reopen_run
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import ConfigError, DataError
from server import loop

WORDS = ["dataset=domains", "public.size=20", "client.batch_size=8", "model=mlp", "num_rounds=2"]
WORDS += ["warmup_rounds=0", "evaluation.test_samples=60", "partitioner.min_samples=10"]
SMALL = "num_train:150,num_test:60,image_size:6"


@pytest.fixture
def words(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))
    raw = synthetic(num_train=150, num_test=60, image_size=6, seed=5)
    x, y = raw.train.inputs, raw.train.labels
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=255 - x[:40], y_test=y[:40])
    listed = f"{{synthetic:{{{SMALL}}}}},{tmp_path / 'mine.npz'},{{synthetic:{{{SMALL},seed:1}}}}"
    return [*WORDS, "num_clients=5", f"dataset.domains=[{listed}]"]


def run(folder: Path, *words: str) -> Path:
    perform(open_run(compose.configure(list(words)), folder, []))
    return folder


def numbers(folder: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = pq.read_table(folder / "metrics.parquet").to_pydict()
    return found


def test_names_and_paths_become_a_run_that_tells_of_each(words, tmp_path, monkeypatch):
    whole, folder = run(tmp_path / "whole", *words), tmp_path / "broken"
    told = json.loads((whole / "summary.json").read_text())["domains"]
    assert [(d["name"], d["clients"]) for d in told] == [
        ("synthetic-image", [0]), ("mine", [1, 2]), ("synthetic-image-3", [3, 4]),
    ]  # fmt: skip
    assert set(told[1]["accuracy"]) == {"accuracy_own", "accuracy_global"} == set(told[1]["gain"])
    real = loop.record

    def interrupt(round_: int, *args: object, **named: object):
        if round_ == 2:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder, *words, "engine.num_nodes=2")
    perform(reopen_run(folder, [f"resume={folder}"], compose.open_hydra()))
    assert numbers(folder) == numbers(whole)


def test_features_of_domains_keep_whose_they_are(words):
    cfg = compose.configure([*words, "features=random"])
    data = build_data(cfg)
    assert data.domains == ("synthetic-image", "mine", "mine", *["synthetic-image-3"] * 2)
    assert data.train.inputs.shape == (450, 512)


def test_who_has_which_domain_is_shown(words):
    dealt = deal(words, None)
    assert [client["domain"] for client in dealt.as_json()["clients"]][:2] == [
        "synthetic-image",
        "mine",
    ]
    assert "domain  " in "\n".join(dealt.lines(100))
    assert "mine: clients 1 to 2" in "\n".join(dealt.lines(100))


def test_from_python_domains_are_arrays_too(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(120, 4)), np.arange(120) % 2
    run = fedfuse.simulate(
        *WORDS, {"dataset.domains": [(x, y), (x + 1, y)], "num_clients": 2},
        baseline="none", progress=False, out=tmp_path / "run",
    )  # fmt: skip
    assert run.metrics["client_id"].max() == 1


@pytest.mark.parametrize(
    ("listed", "error", "message"),
    [
        ("[mnits5k,mnist5k]", ConfigError, "mnist5k"),
        ("[nowhere/at.all,mnist5k]", DataError, "There is no data at nowhere/at.all"),
        ("[{mnist:{path:x.npz}},mnist5k]", DataError, "x.npz"),
        ("[mnist5k]", ConfigError, "a list of two or more"),
        ("mnist5k", ConfigError, "a list of two or more"),
        ("[mnist5k,breast_cancer]", DataError, "do not have inputs of one shape"),
        (
            "[mnist5k,{synthetic:{image_size:28,num_classes:3}}]",
            DataError,
            "has not the classes of",
        ),
        ("[{npz:{}},mnist5k]", ConfigError, "path has no value"),
        ("[3,mnist5k]", ConfigError, "a list of two or more"),
    ],
)
def test_what_are_no_domains_is_one_message(listed, error, message):
    with pytest.raises(error, match=message):
        build_data(compose.configure([*WORDS, f"dataset.domains={listed}"]))
