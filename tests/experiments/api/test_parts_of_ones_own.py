"""Parts that lie outside the project, each in one file, plugged into fedfuse from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fedfuse
from tests.experiments.api.test_simulate import SMALL

SCORER = '''
import torch


def lonely(bank, labels):
    """Score every client's own knowledge far above all others'."""
    return 50.0 * torch.eye(bank.num_clients)
'''

DATASET = '''
import numpy as np

from fedfuse.data.arrays import from_arrays


def blobs(samples=900, spread=1.0):
    """Return three clouds of points."""
    rng = np.random.default_rng(0)
    y = np.arange(samples) % 3
    return from_arrays(rng.normal(size=(samples, 4)) * spread + 3 * np.eye(4)[y], y, name="blobs")
'''

METHOD = """
# @package _global_
# My method: everybody listens to itself.
defaults:
  - override /scorer: custom
  - override /rule: mean_logits

method:
  name: lonely
scorer:
  _target_: my_scorer.lonely
"""

USER = """
import numpy as np
import numpy.typing as npt
import torch

import fedfuse
from fedfuse import KnFu, Pipeline


class Net(torch.nn.Module):
    pass


def score(run: fedfuse.Run) -> npt.NDArray[np.floating]:
    print(run.metrics.groupby("arm").mean(), run.gain().loc["accuracy_own", "gain"])
    module: torch.nn.Module = run.model(3)
    module.eval()
    return run.weights


run = fedfuse.simulate("method=knfu", seed=0, model=Net, scorer=KnFu(beta=3.0))
score(run)
swept = fedfuse.sweep(method=["local", "knfu"], seed=[0, 1])
print(swept.compare(), swept.runs[0].method, Pipeline)
with_state = fedfuse.rounds(method="mean")
for state in with_state:
    if isinstance(state.teachers, fedfuse.Teachers):
        state.teach(state.teachers)
found = fedfuse.load_run("outputs")
if isinstance(found, fedfuse.Sweep):
    found.report(show=True)
print(fedfuse.load_config({"partitioner.alpha": 0.1}, seed=1).partitioner.alpha)
"""


@pytest.fixture
def outside(tmp_path, monkeypatch) -> Path:
    (tmp_path / "my_scorer.py").write_text(SCORER)
    (tmp_path / "my_data.py").write_text(DATASET)
    options = tmp_path / "options" / "method"
    options.mkdir(parents=True)
    (options / "lonely.yaml").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("my_scorer", "my_data"):
        sys.modules.pop(name, None)


def test_a_scorer_a_method_and_a_data_set(outside):
    import my_data

    small = {key: value for key, value in SMALL.items() if not key.startswith("dataset")}
    run = fedfuse.simulate(
        "method=lonely",
        dataset={"_target_": my_data.blobs, "samples": 1200},
        config_dir=outside / "options",
        out=outside / "run",
        **small,
    )
    assert run.method == "lonely"
    assert run.config["dataset"] == {"_target_": "my_data.blobs", "samples": 1200}
    assert run.weights[-1].diagonal() == pytest.approx([1, 1, 1])
    assert run.model(0)([[3.0, 0, 0, 0]]).argmax() == 0
    # The same by name, as the command has it.
    again = fedfuse.simulate(
        "scorer._target_=my_scorer.lonely",
        "dataset._target_=my_data.blobs",
        "rule=mean_logits",
        out=outside / "again",
        **{**small, "dataset.samples": 1200},
    )
    values = [each.metrics.query("arm != 'local'")["value"].tolist() for each in (run, again)]
    assert values[0] == values[1]


def test_a_sweep(tmp_path, capsys):
    def harmless(scores):
        return scores > -1e9

    small = {key: value for key, value in SMALL.items() if key != "progress"}
    swept = fedfuse.sweep(
        "method=local,knfu", seed=np.arange(2), neighbours=harmless, out=tmp_path / "sweep", **small
    )
    assert "run 4 of 4: method=knfu seed=1" in capsys.readouterr().out
    assert [(run.method, run.seed) for run in swept.runs] == [
        ("local", 0), ("local", 1), ("knfu", 0), ("knfu", 1),
    ]  # fmt: skip
    table = swept.compare()
    assert table["method"].tolist() == ["knfu", "knfu"]
    assert table["seeds"].tolist() == [2, 2]
    assert (table["low"] <= table["gain"]).all()
    assert (table["gain"] <= table["high"]).all()
    assert set(swept.metrics.columns) >= {"run", "method", "seed", "value"}
    assert swept.errors == {}
    read = fedfuse.load_run(swept.folder)
    assert isinstance(read, fedfuse.Sweep)
    assert read.compare().equals(table)
    assert "<svg" in read.plot("forest")._repr_html_()
    with pytest.raises(fedfuse.ConfigError, match="have finished"):
        fedfuse.sweep(resume=swept.folder, neighbours=harmless)
    with pytest.raises(fedfuse.ConfigError, match=r"fedfuse.sweep\(resume=FOLDER, neighbours="):
        fedfuse.sweep(resume=swept.folder)
    with pytest.raises(fedfuse.ConfigError, match="objects with parameters"):
        fedfuse.sweep(scorer=[fedfuse.KnFu(beta=1.0), fedfuse.KnFu(beta=2.0)])


def test_a_run_of_a_sweep_that_fails_does_not_stop_the_others(tmp_path):
    small = SMALL | {"num_rounds": 1, "warmup_rounds": 0}
    swept = fedfuse.sweep(
        "method=mean", **{**small, "public.size": [100, 10**6]}, out=tmp_path / "sweep"
    )
    assert [run.config["public"]["size"] for run in swept.runs] == [100]
    assert "public set does not fit" in str(swept.errors[1])


def test_user_code_is_typed(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    root = Path(fedfuse.__file__).parents[1]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            root / ".mypy_cache",
            "--config-file",
            root / "setup.cfg",
            tmp_path / "user.py",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    assert done.returncode == 0, done.stdout


def test_the_names_of_the_package():
    assert set(fedfuse.__all__) <= set(dir(fedfuse))
    assert all(getattr(fedfuse, name) is not None for name in fedfuse.__all__)
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = fedfuse.simulat
