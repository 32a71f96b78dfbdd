"""Advice from the command line: learned from a map, given on a run and on a probe, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.advise.command import main
from experiments.map.command import main as map_main
from experiments.run import main as run_main
from experiments.runs.worker import run_job

BASE = [
    "dataset=synthetic",
    "num_clients=2",
    "model=mlp",
    "public.size=64",
    "evaluation.test_samples=100",
    "val_fraction=0.65",  # 52 validation samples: advice needs 50
    "client.batch_size=8",
    "checkpoint.every=0",
]
PARTITION = ["partitioner=dirichlet_inner", "partitioner.sizes=40", "partitioner.min_samples=1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map of six federations, run in this process."""
    folder = tmp_path_factory.mktemp("advise") / "map"

    class Here:
        """The map's pool, without processes."""

        def __init__(self, workers, log, job, after):
            self.job = job

        def run(self, cells):
            from experiments.runs.pool import Event

            for cell in cells:
                said = []
                run_job(self.job(cell), lambda event, said=said, **_: said.append(event))
                yield Event(cell, said[-1])

    patch = pytest.MonkeyPatch()
    patch.setattr("experiments.runs.pool.Pool", Here)
    grid = ["map.samples=[40]", "map.alpha=[0.1,5]", "map.methods=[knfu]", "map.seeds=[0,1,2]"]
    assert map_main([*grid, *BASE, "num_rounds=3", f"map.dir={folder}", "map.workers=1"]) == 0
    patch.undo()
    return folder


@pytest.fixture(scope="module")
def fitted(made):
    file = made.parent / "fitted.json"
    assert main(["fit", str(made), "-o", str(file)]) == 0
    assert main(["evaluate", str(made), "--fitted", str(file), "-o", str(file)]) == 0
    return file


def cell(made: Path, name: str = "s40-a0.1-knfu-seed0") -> Path:
    return made / "cells" / name


def advise(fitted: Path, capsys, *words: str) -> dict:
    capsys.readouterr()
    assert main([*words, "--json", "--fitted", str(fitted)]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_it_learned_says_from_what_and_what_it_was_worth(fitted):
    content = json.loads(fitted.read_text())
    about = content["fitted"]
    assert (about["runs"], about["federations"], about["seeds"]) == (6, 6, [0, 1, 2])
    assert about["command"] == "fedfuse-advise fit map -o fitted.json"
    (entry,) = content["evaluated"]
    assert entry["unseen"] == "seeds"
    score = entry["scores"]["federation/accuracy_own"]
    assert score["cases"] == 6
    assert score["regret"]["always"]["mean"] >= 0
    assert str(fitted.parent) not in fitted.read_text()


def test_advice_on_a_run_says_what_it_rests_on(made, fitted, capsys):
    capsys.readouterr()
    assert main([str(cell(made)), "--fitted", str(fitted)]) == 0
    told = capsys.readouterr().out
    assert "own distribution: " in told
    assert "Learned from 6 runs of 6 federations" in told
    assert "regret" in told
    assert all(len(line.rstrip()) <= 80 for line in told.splitlines())


def test_there_is_no_advice_on_a_handful_of_validation_samples(made, fitted, capsys, tmp_path):
    import shutil

    import pyarrow.parquet as pq

    shutil.copytree(cell(made), copy := tmp_path / "copy")
    table = pq.read_table(copy / "partition.parquet")
    split = np.asarray(table["split"])
    keep = (split != "val") | (np.cumsum(split == "val") <= 49)
    pq.write_table(table.filter(keep), copy / "partition.parquet")
    capsys.readouterr()
    assert main([str(copy), "--fitted", str(fitted)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    why = "the clients validate on 49 samples in all, fewer than 50"
    assert f"own distribution: no advice can be given: {why}." in told
    assert "likely" not in told
    found = advise(fitted, capsys, str(copy))
    assert found["no_advice"] == why
    assert found["tests"]["accuracy_own"] == {"federation": None, "clients": [None, None]}
    assert advise(fitted, capsys, str(cell(made)))["no_advice"] is None


def test_a_probe_run_now_gives_the_advice_of_the_whole_run(made, fitted, capsys, tmp_path):
    whole = advise(fitted, capsys, str(cell(made)))
    own = ["method=knfu", "seed=0", "partitioner.alpha=0.1", f"hydra.run.dir={tmp_path / 'probe'}"]
    probed = advise(fitted, capsys, *BASE, *PARTITION, *own)
    assert probed["tests"] == whole["tests"]
    assert probed["features"] == whole["features"]
    assert json.loads((tmp_path / "probe" / "run.json").read_text())["status"] == "finished"


def test_nothing_of_later_rounds_or_of_test_sets_is_read(made, fitted, capsys, tmp_path):
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = advise(fitted, capsys, str(cell(made)))
    copy = tmp_path / "copy"
    shutil.copytree(cell(made), copy)
    for name in ("metrics.parquet", "baseline.parquet"):
        table = pq.read_table(copy / name).to_pylist()
        kept = [r for r in table if r["round"] <= 2 and "own" not in r["metric"]]
        kept = [r for r in kept if "global" not in r["metric"]]
        assert len(kept) < len(table)
        pq.write_table(pa.Table.from_pylist(kept), copy / name)
    (copy / "summary.json").unlink()
    (copy / "run.json").write_text(
        (copy / "run.json").read_text().replace('"finished"', '"running"')
    )
    alone = advise(fitted, capsys, str(copy))
    assert alone["tests"] == whole["tests"]


def damaged(made: Path, tmp_path: Path, what: str) -> Path:
    """Return a copy of a run folder with one thing wrong."""
    import shutil

    import pyarrow.parquet as pq

    copy = tmp_path / "copy"
    shutil.copytree(cell(made), copy)
    if what == "newer":
        text = (copy / "run.json").read_text()
        (copy / "run.json").write_text(text.replace('"format": 1', '"format": 99'))
    elif what == "no baseline":
        (copy / "baseline.parquet").unlink()
    elif what == "one round":
        table = pq.read_table(copy / "metrics.parquet")
        rounds = table["round"].to_numpy()
        pq.write_table(table.filter(rounds <= 1), copy / "metrics.parquet")
    elif what == "older":
        table = pq.read_table(copy / "metrics.parquet")
        metrics = np.asarray(table["metric"])
        unknown = np.isin(metrics, ["epd_classes", "entropy", "disagreement", "epd_distance"])
        pq.write_table(table.filter(~unknown), copy / "metrics.parquet")
    elif what == "not validated":
        table = pq.read_table(copy / "metrics.parquet")
        unknown = np.isin(np.asarray(table["metric"]), ["accuracy_val", "loss_val"])
        pq.write_table(table.filter(~unknown), copy / "metrics.parquet")
    elif what == "one client":
        table = pq.read_table(copy / "partition.parquet")
        pq.write_table(table.filter(table["client_id"].to_numpy() == 0), copy / "partition.parquet")
    elif what == "no sizes":
        (copy / "partition.parquet").unlink()
    return copy


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("newer", "written by a newer fedfuse: got format 99"),
        ("no baseline", "has no baseline: got baseline=none"),
        ("one round", "shorter than the probe: got 1 round of both arms"),
        ("older", "An older fedfuse made it"),
        ("not validated", "were not validated in round 2"),
        ("one client", "one client, which has nobody to fuse with"),
        ("no sizes", "how many samples its clients hold"),
    ],
)
def test_a_run_without_what_advice_needs_costs_one_message(
    made, fitted, capsys, tmp_path, what, said
):
    check_refused(capsys, [str(damaged(made, tmp_path, what)), "--fitted", str(fitted)], said)


def check_refused(capsys, words: list[str], said: str) -> None:
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert said in told


def test_other_folders_cost_one_message(made, fitted, capsys, tmp_path):
    last = ["--fitted", str(fitted)]
    check_refused(capsys, [str(tmp_path), *last], "is empty")
    check_refused(capsys, [str(tmp_path / "nowhere"), *last], "is not a folder")
    check_refused(capsys, [str(made), *last], "holds 12 runs")
    local = str(cell(made, "s40-a0.1-local-seed0"))
    check_refused(capsys, [local, *last], "local training itself")
    check_refused(capsys, ["fit", str(tmp_path), "-o", "x.json"], "there is no run")
    check_refused(capsys, ["fit", str(made)], "-o FILE")
    check_refused(capsys, ["evaluate"], "needs the folder of a map")
    check_refused(capsys, [str(made), "num_rounds=2", *last], "one run folder, or")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("num_clients=1", "nobody to fuse with"),
        ("method=local", "a method that fuses"),
        ("baseline=none", "the probe compares with it"),
        ("warmup_rounds=2", "leaves no round for fusion"),
        ("method=fedavg", "an exchange of predictions"),
        ("val_fraction=0", "validation data"),
        ("num_rounds=7", "num_rounds=2, which is the default here"),
        ("method=knfoo", "Did you mean 'knfu'"),
    ],
)
def test_a_probe_without_what_advice_needs_is_refused_before_training(
    fitted, capsys, tmp_path, line, said
):
    kept = [word for word in BASE if word.split("=")[0] != line.split("=")[0]]
    folder = tmp_path / "probe"
    words = [*kept, line, f"hydra.run.dir={folder}", "--fitted", str(fitted)]
    check_refused(capsys, words, said)
    assert not folder.exists()


def test_a_run_that_exchanged_something_else_is_named(fitted, capsys, tmp_path):
    folder = tmp_path / "run"
    words = [*BASE, "partitioner.min_samples=33", f"hydra.run.dir={folder}", "num_rounds=2"]
    assert run_main([*words, "method=fedavg"]) == 0
    last = ["--fitted", str(fitted)]
    check_refused(capsys, [str(folder), *last], "share no predictions: got exchange Averaged")


def test_a_short_map_teaches_nothing(capsys, tmp_path):
    folder = tmp_path / "run"
    words = [*BASE, "partitioner.min_samples=33", f"hydra.run.dir={folder}", "num_rounds=2"]
    assert run_main(words) == 0
    check_refused(capsys, ["fit", str(folder), "-o", str(tmp_path / "x")], "ended with the probe")


def test_a_file_says_what_the_probe_runs(monkeypatch, tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text("partitioner: {option: dirichlet, alpha: 0.1}\nseed: 3\n")
    asked = []
    monkeypatch.setattr(
        "experiments.advise.probing.probe", lambda words, *_, **__: (asked.append(words) or 7, file)
    )
    assert main(["--config-file", str(file), "seed=4"]) == 7
    assert asked == [["partitioner=dirichlet", "partitioner.alpha=0.1", "seed=4"]]
    file.write_text("sweep: {seed: [1, 2]}\n")
    assert main(["--config-file", str(file)]) == 2
    assert f"{file} sweeps over seed, and only fedfuse itself sweeps" in capsys.readouterr().err
