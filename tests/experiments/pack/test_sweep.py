"""``engine.pack=true``: each run of a pack leaves what it leaves alone."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from experiments.run import main
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.joint import Joint

COMMON = (
    "dataset=synthetic",
    "dataset.num_train=300",
    "dataset.num_test=100",
    "num_clients=3",
    "num_rounds=2",
    "public.size=64",
    "evaluation.test_samples=100",
    "optimizer=sgd",  # Adam divides one rounding error by another while its moments are tiny
)
SWEEP = ("method=mean,knfu", "seed=0,1", "partitioner.alpha=0.3,3", "optimizer.lr=0.05")
NET = ("model=cnn2", "model.width=4", "model.hidden=16")
TOLERANCE = 1e-4
"""Of losses, weights and whatever else is no accuracy, relative to 1 or to the value."""


def sweep(folder: Path, *lines: str) -> list[Path]:
    """Run a sweep and return the folders of its runs."""
    assert main(["-m", *COMMON, *lines, f"hydra.sweep.dir={folder}"]) == 0
    return runs_of(folder)


def runs_of(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/run.json"))


def files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def check_same(one: Path, other: Path) -> None:
    """Fail unless two runs left the same files with the same numbers."""
    assert files(one) == files(other)
    for name in sorted(path.name for path in one.glob("*.parquet")):
        ours, theirs = pq.read_table(one / name), pq.read_table(other / name)
        if name == "partition.parquet":
            assert ours == theirs
            continue
        for mine, its in zip(ours.to_pylist(), theirs.to_pylist(), strict=True):
            value, expected = mine.pop("value"), its.pop("value")
            assert mine == its
            # An accuracy is a count of at least 4 samples of at most 100: one may change sides.
            slack = 0.26 if "_val" in mine["metric"] else 0.021
            slack = slack if "accuracy" in mine["metric"] else TOLERANCE
            assert value == pytest.approx(expected, abs=slack, rel=TOLERANCE, nan_ok=True), mine
    weights = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=TOLERANCE, rtol=TOLERANCE)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (one, other)]
    assert summaries[0].keys() == summaries[1].keys()
    assert json.loads((one / "run.json").read_text())["status"] == "finished"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Return a pack's folders, students in each training, calls answered at once, and output."""
    sizes, asked, said = [], [], io.StringIO()
    fit, answer = BatchedTrainer.fit, Joint.__call__

    def counting(self, students, works):
        sizes.append(len(students))
        return fit(self, students, works)

    def noting(self, calls):
        asked.append(len(calls))
        return answer(self, calls)

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(BatchedTrainer, "fit", counting)
        patch.setattr(Joint, "__call__", noting)
        folder = tmp_path_factory.mktemp("pack") / "pack"
        runs = sweep(folder, *SWEEP, *NET, "engine.pack=true")
    return runs, sizes, asked, said.getvalue()


def test_every_run_is_what_it_is_alone(pack, tmp_path):
    alone = sweep(tmp_path / "alone", *SWEEP, *NET, "trainer=batched")
    assert len(alone) == 8
    held = {pq.read_table(run / "partition.parquet").num_rows for run in alone}
    assert len(held) > 1  # clients of unequal sizes
    for mine, other in zip(pack[0], alone, strict=True):
        check_same(mine, other)


def test_and_what_it_is_with_one_client_after_the_other(pack, tmp_path):
    lines = ("method=knfu", "seed=1", *SWEEP[2:], *NET, "trainer=loop")
    for mine, other in zip(pack[0][6:], sweep(tmp_path / "alone", *lines), strict=True):
        check_same(mine, other)


def test_a_phase_of_all_runs_is_one_training(pack):
    _, sizes, asked, _ = pack
    # Four baselines serve eight runs: a round of warm-up, and one with a second phase.
    assert sizes == [12] * 3 + [24] * 3
    assert set(asked) == {4, 8}


def test_runs_with_two_controls_take_turns_with_those_that_have_one(tmp_path):
    lines = ("model=mlp", "method=mean,mean_adjusted,fedmd_adjusted", "optimizer.lr=0.05")
    alone = sweep(tmp_path / "alone", *lines, "trainer=batched")
    assert [(run / "local_adjusted.parquet").exists() for run in alone] == [False, True, True]
    for mine, other in zip(
        sweep(tmp_path / "pack", *lines, "engine.pack=true"), alone, strict=True
    ):
        check_same(mine, other)


def test_a_run_that_fails_fails_alone(tmp_path, capsys):
    lines = ("model=mlp", "method=mean", "engine.pack=true", "optimizer.lr=0.05,1e30,0.01")
    folder = tmp_path / "pack"
    assert main(["-m", *COMMON, *lines, f"hydra.sweep.dir={folder}"]) == 2
    said = capsys.readouterr().err
    assert "run 2 has stopped:\nerror: Training of client" in said
    assert "diverged in round 1" in said
    assert "Lower optimizer.lr" in said
    done = runs_of(folder)
    assert [run.name[0] for run in done] == ["0", "2"]
    lines = ("model=mlp", "method=mean", "trainer=batched", "optimizer.lr=0.01")
    alone = tmp_path / "alone"
    assert main([*COMMON, *lines, f"hydra.run.dir={alone}"]) == 0
    check_same(done[1], alone)


def test_an_interrupted_pack_goes_on_run_by_run(tmp_path, monkeypatch, capsys):
    lines = ("model=mlp", "method=mean", "optimizer.lr=0.05", "seed=0,1", "engine.pack=true")
    whole = sweep(tmp_path / "whole", *lines)
    answer, calls = Joint.__call__, []

    def pressing(self, asked):
        calls.append(asked)
        if len(calls) == 13:  # in the method's second round
            raise KeyboardInterrupt
        return answer(self, asked)

    with monkeypatch.context() as patch:
        patch.setattr(Joint, "__call__", pressing)
        folder = tmp_path / "pack"
        assert main(["-m", *COMMON, *lines, f"hydra.sweep.dir={folder}"]) == 130
    assert capsys.readouterr().err.count("go on with: fedfuse resume=") == 2
    for broken, unbroken in zip(runs_of(folder), whole, strict=True):
        assert json.loads((broken / "run.json").read_text())["status"] == "failed"
        assert main([f"resume={broken}"]) == 0
        check_same(broken, unbroken)


def test_a_pack_tells_how_far_all_runs_are(pack):
    lines = [line for line in pack[3].splitlines() if "  round " in line]
    arms = [(line.split()[0], line.split()[2], line.split()[3]) for line in lines]
    assert arms == [(a, f"{r}/2", n) for a, n in (("local", "4"), ("methods", "8")) for r in (1, 2)]
    assert all(len(line) <= 80 for line in lines)
