"""A run that was killed goes on as if nothing had happened, on the same engine or another."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.run import main
from server import loop
from server.records import checkpoint
from server.records.checkpoint import Checkpoints

TINY = (
    "dataset=synthetic",
    "dataset.num_train=600",
    "public.size=100",
    "num_clients=3",
    "num_rounds=4",
    "model=mlp",
    "method=ktpfl",  # its scorer learns from round to round
    "uptake=chain",
    "+uptake@uptake.stages.look=homeostatic",  # it draws in every round
    "uptake.stages.look.passes=2",
    "+uptake@uptake.stages.past=two_teachers",  # it remembers what the client said
    "+uptake@uptake.stages.clock=clock",  # the client's own time
    "distill=taid",
    "evaluation.test_samples=100",
    *("lr_schedule=cosine", "lr_schedule.warmup=1", "lr_schedule.per=step", "client.clip_norm=1"),
    "private_augment=crop_flip",
)


def same(one: Path, other: Path) -> bool:
    names = ("metrics.parquet", "baseline.parquet", "weights.safetensors")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def killed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    *overrides: str,
    base: Sequence[str] = TINY,
) -> None:
    """Run in a fork that kills itself after so many saves, half-way through the next round."""
    torch.set_num_threads(1)

    def child() -> None:
        real, saves = Checkpoints.save, []

        def save(self: Checkpoints, *args: object) -> None:
            if len(saves) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            saves.append(real(self, *args))

        Checkpoints.save = save
        main([*base, *overrides, f"hydra.run.dir={folder}"])

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(600)
    assert process.exitcode == -signal.SIGKILL
    assert json.loads((folder / "run.json").read_text())["status"] == "running"


@contextmanager
def interruption(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[int]]:
    """Interrupt a run in this process at the end of so many rounds; yield which they were."""
    real, rounds = loop.record, []

    def interrupt(round_: int, *args: object, **named: object):
        rounds.append(round_)
        if len(rounds) == at:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        yield rounds


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    """Run in this process, and be interrupted at the end of the method's third round."""
    with interruption(monkeypatch, at=4 + 3) as rounds:  # the baseline's four come first
        assert main([*TINY, *overrides, f"hydra.run.dir={folder}"]) == 130
    assert rounds == [1, 2, 3, 4, 1, 2, 3]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "unbroken"
    assert main([*TINY, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.mark.parametrize("after", [0, 1, 4, 6])
def test_a_killed_run_ends_with_the_metrics_of_one_that_was_not(
    unbroken, tmp_path, monkeypatch, after
):
    folder = tmp_path / "run"
    killed(folder, monkeypatch, after)
    assert main([f"resume={folder}"]) == 0
    assert same(folder, unbroken)
    assert not (folder / "checkpoint").exists()


@pytest.mark.parametrize("state", ["context", "disk"])
def test_local_twins_go_on_too(tmp_path, monkeypatch, state):
    guarded = ("guard=sequential", "method=mean_adjusted", "baseline=none", f"client.state={state}")
    whole, folder = tmp_path / "whole", tmp_path / "run"
    base = [line for line in TINY if "method" not in line]
    assert main([*base, *guarded, f"hydra.run.dir={whole}"]) == 0
    killed(folder, monkeypatch, 2, *guarded, base=base)
    assert main([f"resume={folder}"]) == 0
    names = ["metrics.parquet", *(f"models/{i}.local.safetensors" for i in range(3))]
    for name in names:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize(("before", "after"), [("context", "disk"), ("disk", "live")])
def test_it_may_go_on_with_other_nodes_and_states_elsewhere(
    unbroken, tmp_path, monkeypatch, before, after
):
    folder = tmp_path / "run"
    killed(folder, monkeypatch, 5, f"client.state={before}", "engine.num_nodes=2")
    where = {"disk": "client.state=disk", "live": "client.state=auto"}[after]
    assert main([f"resume={folder}", "engine.num_nodes=3", where]) == 0
    assert same(folder, unbroken)


@pytest.mark.ray
def test_it_may_go_on_with_another_engine_and_back(unbroken, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray", reason="the extra 'sim' is not installed")
    folder = tmp_path / "run"
    interrupted(folder, monkeypatch)
    assert f"fedfuse resume={folder}" in capsys.readouterr().err
    on_ray = [f"resume={folder}", "engine=ray", "engine.num_nodes=1"]  # each starts a process
    with interruption(monkeypatch, at=2) as rounds:
        assert main(on_ray) == 130
    assert rounds == [3, 4]
    assert f"fedfuse resume={folder}" in capsys.readouterr().err
    assert main([f"resume={folder}", "engine=serial"]) == 0
    assert same(folder, unbroken)


def test_what_cannot_be_resumed_costs_one_message(unbroken, tmp_path, capsys):
    for argv, words in (
        ([f"resume={unbroken}"], "has finished"),
        ([f"resume={tmp_path}"], "not the folder of a run"),
        ([f"resume={tmp_path / 'nowhere'}"], "there is no run folder"),
    ):
        assert main(argv) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_a_resumed_run_keeps_its_configuration(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    killed(folder, monkeypatch, 1)
    assert main([f"resume={folder}", "seed=1"]) == 2
    assert "keeps its configuration" in capsys.readouterr().err
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    assert main([f"resume={folder}"]) == 2
    assert "belongs to another run" in capsys.readouterr().err
    assert (folder / "checkpoint").is_dir()


def test_an_error_leaves_a_run_that_can_go_on(unbroken, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    interrupted(folder, monkeypatch)
    assert f"fedfuse resume={folder}" in capsys.readouterr().err
    assert main([f"resume={folder}"]) == 0
    assert same(folder, unbroken)


def test_faults_survive_a_crash_too(tmp_path, monkeypatch):
    faults = ("faults=stragglers", "faults.rate=0.6", "participation=uniform")
    faults += ("participation.fraction=0.7",)
    assert main([*TINY, *faults, f"hydra.run.dir={tmp_path / 'unbroken'}"]) == 0
    killed(tmp_path / "run", monkeypatch, 5, *faults)
    assert main([f"resume={tmp_path / 'run'}"]) == 0
    assert same(tmp_path / "run", tmp_path / "unbroken")


def test_a_full_disk_stops_a_run_whose_checkpoints_are_written_behind_it(
    unbroken, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    real = checkpoint._write

    def full(where: int, name: str, content: bytes) -> str:
        if name == checkpoint.SERVER and "000003" in str(list(folder.glob("checkpoint/*"))):
            raise OSError(28, "No space left on device")
        return real(where, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_write", full)
        assert main([*TINY, "client.state=disk", f"hydra.run.dir={folder}"]) == 2
    said = capsys.readouterr().err
    assert said.count("A checkpoint cannot be written") == 1
    assert "No space left on device" in said
    assert main([f"resume={folder}"]) == 0
    assert same(folder, unbroken)


def test_a_run_goes_on_from_another_folder_and_with_its_data_elsewhere(
    tmp_path, monkeypatch, capsys
):
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(400, 5)).astype(np.float32), np.arange(400) % 4
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    monkeypatch.chdir(home)
    np.savez("a.npz", x_train=inputs, y_train=labels)
    np.savez(away / "same.npz", x_train=inputs, y_train=labels)
    np.savez(away / "other.npz", x_train=-inputs, y_train=labels)
    Path("p.json").write_text(json.dumps([list(range(150)), list(range(150, 390))]))
    lines = [
        *("dataset=npz", "dataset.path=a.npz", "partitioner=fixed", "partitioner.path=p.json"),
        *("num_clients=2", "num_rounds=3", "model=mlp", "method=mean", "public.size=40"),
    ]
    assert main([*lines, "hydra.run.dir=unbroken"]) == 0
    with interruption(monkeypatch, at=5):
        assert main([*lines, "hydra.run.dir=run"]) == 130
    shutil.copytree("run", away / "run")
    monkeypatch.chdir(away)
    assert main(["resume=../home/run"]) == 0, "the paths mean what they meant where it began"
    (home / "a.npz").unlink()
    before = (away / "run" / "run.json").read_text()
    capsys.readouterr()
    for wrong, words in (("other.npz", "the data"), ("none.npz", "none.npz")):
        assert main(["resume=run", f"dataset.path={wrong}"]) == 2
        assert words in capsys.readouterr().err
    told = [
        json.loads(text)["data_fingerprint"] for text in (before, Path("run/run.json").read_text())
    ]
    assert told[0] == told[1], "a refused run stays what it was"
    shutil.move(home / "p.json", away / "q.json")
    assert main(["resume=run", "dataset.path=same.npz", "partitioner.path=q.json"]) == 0
    assert same(away / "run", home / "unbroken")
    assert same(home / "run", home / "unbroken")
