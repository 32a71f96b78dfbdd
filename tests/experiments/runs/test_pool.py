"""Runs in worker processes that stay: their order, what is lost with one of them, how all end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from experiments.run import main
from experiments.runs.pool import CODE, Order
from experiments.runs.worker import failure
from fedfuse.failure import Failure
from server.transport.answer import ClientFailedError
from tests.tiny import TINY

SWEEP = ["-m", *TINY, "num_clients=2", "method=mean,fedmd"]
FILES = ("metrics.parquet", "baseline.parquet", "weights.safetensors", "config.yaml")
MORTAL = """
import os

def dies(scores):
    os._exit(9)

def lives(scores):
    return scores == scores
"""


def test_what_waits_comes_next_once_its_first_has_ended() -> None:
    order = Order(["a", "a1", "b", "b1", "a2"], {"a1": "a", "a2": "a", "b1": "b", "b": "elsewhere"})
    assert [order.take(), order.take(), order.take()] == ["a", "b", None]
    order.settle("a")
    assert [order.take(), order.take(), order.take()] == ["a1", "a2", None]
    order.settle("b")
    assert [order.take(), order.take()] == ["b1", None]


def test_a_worker_looks_for_garbage_rarely_from_its_first_import_on() -> None:
    first = CODE.partition(";")[0]
    asked = [sys.executable, "-P", "-c", f"{first}; import gc, sys; print(gc.get_threshold()[0])"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    told = subprocess.run(asked, env=env, capture_output=True, text=True, check=True)
    assert int(told.stdout) >= 10_000


def test_a_client_that_failed_elsewhere_is_told_as_one_here() -> None:
    words = {"client_id": 1, "round": 2, "phase": "train", "error": "E", "traceback": "T"}
    error = failure({"failure": {**words, "is_mistake": False}, "notes": ["how to go on"]})
    assert isinstance(error, ClientFailedError)
    assert error.failure == Failure(1, 2, "train", "E", "T", is_mistake=False)
    assert error.__notes__ == ["how to go on"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "sweep"
    assert main([*SWEEP, f"hydra.sweep.dir={folder}"]) == 0
    return folder


def same(folder: Path, whole: Path) -> None:
    for path in whole.glob("*/*"):
        if path.name in FILES:
            assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes(), path


def test_side_by_side_killed_and_gone_on_with_it_is_the_same_sweep(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    words = [*SWEEP, f"hydra.sweep.dir={folder}", "workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from experiments.run import main; main()", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not list(folder.glob("*/checkpoint/rounds/*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children()
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(workers, timeout=300)[1], "a worker was left behind"
    (tmp_path / "own/reporter").mkdir(parents=True)
    (tmp_path / "own/reporter/mine.yaml").write_text("_target_: null\n")
    words = ["--config-dir", str(tmp_path / "own"), "reporter=mine"]  # workers know it as well
    assert main([f"resume={folder}", "workers=2", *words]) == 0
    out = capsys.readouterr().out
    assert "done (2 of 2): run" in out
    assert "sweep folder" in out
    same(folder, whole)


def test_a_run_whose_process_dies_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SWEEP[:-1], "method=mean", "neighbours._target_=mortal.dies,mortal.lives"]
    folder = tmp_path / "sweep"
    assert main([*words, "baseline=none", f"hydra.sweep.dir={folder}", "workers=2"]) == 2
    err = capsys.readouterr().err
    assert err.count("its process ended unexpectedly: got exit code 9") == 1
    assert f"Look at the end of {folder}/.sweep/log" in err
    done = [json.loads(file.read_text())["status"] for file in folder.glob("*/run.json")]
    assert sorted(done) == ["finished", "running"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=0", "workers=2"], "this is one run. Add -m"),
        (["-m", "seed=0,1", "workers=none"], "workers is not valid: got 'none'"),
        (["-m", "seed=0,1", "workers=2", "workers=3"], "'workers' is given twice: 2 and 3"),
        (["-m", "seed=0,1", "workers=2", "engine=ray"], "got engine=ray, allowed: engine=serial"),
        (["-m", "seed=0,1", "workers=2", "engine.pack=true"], "got engine.pack=true"),
    ],
)
def test_mistakes_cost_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
