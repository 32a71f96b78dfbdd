"""``fedfuse tune`` from the command line: what wins, what is left, and how it goes on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.results.arms import Arm
from experiments.run import main
from experiments.tune import ranking
from experiments.tune.ranking import Score, ranked, scores
from experiments.tune.study import Study, Tuned
from experiments.tune.winner import write

SMALL = [
    "dataset=synthetic", "dataset.num_train=600", "dataset.num_test=200", "public.size=40",
    "num_clients=3", "model=mlp", "client.batch_size=8", "num_rounds=2", "seed=10001",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path.parent / "cache"))


def tune(*words: str) -> int:
    return main(["tune", *words, *([] if words[0].startswith("resume") else SMALL)])


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of a tuning of two methods, and what it printed."""
    path, out = tmp_path_factory.mktemp("tuned") / "t", io.StringIO()
    with contextlib.redirect_stdout(out):
        words = ["method=fedmd,mean", "trials=2", "temperature=1", f"hydra.sweep.dir={path}"]
        assert tune(*words) == 0
    return path, out.getvalue()


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_the_winner_is_run_from_either_file_and_the_table_says_how_trials_rank(
    tuned: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tuned
    of_table = out[out.index("fedmd: validation") : out.index("settings that won")]
    assert max(map(len, of_table.splitlines())) <= 80
    assert "global" not in out  # the tests that a run shows
    rows = table(path / "fedmd.csv")
    accuracies = [float(row["accuracy_val"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {row["trial"] for row in rows} == {"0", "1"}
    best = rows[0]["client.private_weight"]
    assert main(["--config-file", str(path / "fedmd.yaml"), "--cfg", "job"]) == 0
    study = capsys.readouterr().out
    assert f"private_weight: {float(best)}" in study
    assert main(["--config-dir", str(path), "--cfg", "job", "method=fedmd_tuned"]) == 0
    bundle = capsys.readouterr().out
    assert f"private_weight: {float(best)}" in bundle
    assert "fedfuse.distill.MAE" in bundle  # it begins with the method's own parts
    assert "name: fedmd_tuned" in bundle


def test_a_winner_runs_whatever_way_its_numbers_and_keys_were_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["optimizer.lr=1e-3", "client.private_weight=1", "temperature=1"]
    words += ["optimizer.weight_decay=0,1e-05", "++optimizer.amsgrad=true"]
    ranges = {"optimizer.weight_decay": "0,1e-05"}
    tuned = Tuned("mean", ranges, [2], [{"optimizer.weight_decay": "1e-05"}])
    score = Score(0, 0, 0.9, 0.1, 0.0, 0.0)
    write(Study(words[:3] + words[4:], "random", 1, [10_000], [tuned]), tuned, [score], Path())
    for asked in (["--config-file", "mean.yaml"], ["--config-dir", ".", "method=mean_tuned"]):
        assert main([*asked, "--cfg", "job"]) == 0
        told = capsys.readouterr().out
        assert "weight_decay: 1.0e-05" in told
        assert ("amsgrad: true" in told and "lr: 0.001" in told) or "mean_tuned" in asked[-1]


def test_test_data_choose_nothing(tuned: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {n: [next(tuned[0].glob(f"{n}-*"))] for n in range(2)}
    read: list[str] = []
    real = Arm.values

    def spied(arm: Arm, metric: str, *rest: Any) -> Any:
        read.append(metric)
        return real(arm, metric, *rest)

    monkeypatch.setattr(Arm, "values", spied)
    assert len(scores(folders, 0)) == 2
    assert set(read) == {"accuracy_val", "loss_val"}


def test_it_goes_on_where_it_was_broken_off(
    tuned: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tuned[0], "t")
    whole = Path("t/mean.csv").read_bytes()
    first = next(Path("t").glob("0-*")) / "run.json"
    kept = first.stat().st_mtime_ns
    shutil.rmtree(next(Path("t").glob("3-*")))
    Path("t/mean.csv").unlink()
    assert main(["resume=t"]) == 0  # the same as: tune resume=t
    assert "3 are done, 1 to run" in capsys.readouterr().out
    assert Path("t/mean.csv").read_bytes() == whole
    assert first.stat().st_mtime_ns == kept
    Path("t/mean.csv").unlink()
    assert tune("resume=t") == 0  # all is done: it is only ranked
    assert Path("t/mean.csv").read_bytes() == whole


def test_a_trial_that_fails_is_last_and_the_others_are_ranked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["method=mean", "trials=2", "hydra.sweep.dir=t", "optimizer.lr=0.001,1e30"]
    assert tune(*words, "client.private_weight=1", "temperature=1") == 1
    told = capsys.readouterr()
    assert "diverged" in told.err
    assert "1 trials failed; once mended: fedfuse tune resume=t" in told.out
    assert [row["status"] for row in table(Path("t/mean.csv"))] == ["finished", "failed"]


def test_where_every_trial_fails_nothing_wins(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["method=fedmd", "trials=2", "hydra.sweep.dir=t", "optimizer.lr=1e30"]
    assert tune(*words) == 2
    said = "no trial of method=fedmd finished. Mend what stopped them, and begin again."
    assert said in capsys.readouterr().err
    assert not Path("t").exists()


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('"method": "mean"', '"method": "../../x"'),
        ('"rounds": [2]', '"rounds": []'),
        ('"words": [', '"words": ["a", '),
        ('"seeds": [10001]', '"seeds": [10001, 10002]'),
        ('"client.private_weight": "1"', '"client.private_weight": 1'),
    ],
)
def test_a_folder_that_somebody_changed_is_refused_and_nothing_written(
    tuned: tuple[Path, str], capsys: pytest.CaptureFixture[str], was: str, now: str
) -> None:
    shutil.copytree(tuned[0], "a/b/t")
    file = Path("a/b/t/.sweep/tune.json")
    assert was in file.read_text()
    file.write_text(file.read_text().replace(was, now))
    before = sorted(Path().rglob("*"))
    assert tune("resume=a/b/t") == 2
    assert "holds" in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def test_side_by_side_trials_are_those_of_one_after_the_other(tuned: tuple[Path, str]) -> None:
    words = ["method=fedmd", "trials=2", "temperature=1", "hydra.sweep.dir=t", "workers=2"]
    assert tune(*words) == 0
    assert Path("t/fedmd.csv").read_bytes() == (tuned[0] / "fedmd.csv").read_bytes()


def test_halving_gives_the_best_third_more_rounds() -> None:
    words = ["method=mean", "trials=3", "search=halving", "hydra.sweep.dir=t", "num_rounds=3"]
    assert main(["tune", *words, *(word for word in SMALL if "rounds" not in word)]) == 0
    rows = table(Path("t/mean.csv"))
    assert [row["rounds"] for row in rows] == ["3", "2", "2"]
    ran = [json.loads(file.read_text())["status"] for file in Path("t").glob("*/run.json")]
    assert ran == ["finished"] * 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=mean", "trials=0"], "trials is not valid: got '0', allowed: an integer from"),
        (["method=mean", "trials=99999999999999999999"], "allowed: an integer from 2 to 1000"),
        (["trials=2"], "fedfuse tune needs a method"),
        (["method=mean", "search=halv"], "Did you mean 'halving'"),
        (["method=local"], "method=local has no key with a declared range"),
        (["method=mean", "workers=2", "engine=ray"], "workers=2 starts a process for each run"),
        (["method=fedgkt", "~exchange.model.depth"], "cannot take a key out: got ~exchange.model"),
        (["method=mean", "hydra.run.dir=mine"], "would not be read, because many runs lie in one"),
        (["method=mean", "hydra.job.name=mine"], "hydra.job.name would not be read"),
        (["resume=nowhere"], "'nowhere' holds no tuning that can be read"),
        (["resume=nowhere", "trials=3"], "trials and search cannot be set"),
    ],
)
def test_mistakes_cost_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_of_equals_the_smaller_loss_wins_and_what_failed_comes_last() -> None:
    def score(trial: int, rung: int, accuracy: float, loss: float) -> Score:
        return Score(trial, rung, accuracy, loss, 0.0, 0.0)

    nan = float("nan")
    found = [
        score(0, 0, 0.9, 0.3),
        score(1, 0, nan, nan),
        score(2, 0, 0.9, 0.2),
        score(3, 1, 0.8, 1),
    ]
    assert [one.trial for one in ranked(found)] == [3, 2, 0, 1]


def test_clients_that_attack_do_not_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = Arm(np.array([1]), {"accuracy_val@fused": np.array([[0.5, 0.9, 0.7]])}, {})
    run = SimpleNamespace(
        finished=True, arm=arm, config={"num_clients": 3}, summary={"attack": {"adversaries": [1]}}
    )
    monkeypatch.setattr(ranking, "read_run", lambda _: run)
    accuracy, loss = ranking.validated(Path()) or (np.zeros(0), np.zeros(0))
    np.testing.assert_array_equal(accuracy, [0.5, np.nan, 0.7])
    assert np.isnan(loss).all()
