"""A map from the command line: what it leaves, killed and resumed, and refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.map.command import main
from experiments.results import load

SMALL = [
    "dataset=synthetic",
    "num_clients=2",
    "num_rounds=2",
    "model=mlp",
    "public.size=64",
    "evaluation.test_samples=100",
]
GRID = ["map.samples=[40]", "map.alpha=[0.5]", "map.methods=[knfu]", "map.seeds=[0,1]"]


def command(folder: Path, *more: str) -> list[str]:
    return [*GRID, *SMALL, f"map.dir={folder}", "map.workers=1", *more]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps") / "map"
    assert main(command(folder)) == 0
    return folder


def stamps(folder: Path) -> dict[str, int]:
    return {f.parent.name: f.stat().st_mtime_ns for f in folder.glob("cells/*/metrics.parquet")}


def test_a_map_leaves_cells_a_table_and_a_picture(made):
    names = {"s40-a0.5-local-seed0", "s40-a0.5-local-seed1"}
    names |= {"s40-a0.5-knfu-seed0", "s40-a0.5-knfu-seed1"}
    assert set(stamps(made)) == names
    assert (made / "map.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (made / "map.svg").read_bytes()
    table = pq.read_table(made / "map.parquet").to_pylist()
    assert len(table) == 4 * 2 * 2 * 2  # cells, clients, tests, moments
    for row in table:
        if row["method"] == "knfu":
            assert row["gain"] == pytest.approx(row["accuracy"] - row["baseline"])
            twin = next(
                r
                for r in table
                if r["method"] == "local"
                and all(r[k] == row[k] for k in ("seed", "client_id", "test", "moment"))
            )
            assert twin["accuracy"] == row["baseline"]  # one local training for both


def test_all_cells_as_one_pack_give_the_same_map(made, tmp_path):
    folder = tmp_path / "pack"
    assert main(command(folder, "engine.pack=true")) == 0
    both = [pq.read_table(where / "map.parquet").to_pylist() for where in (folder, made)]
    for mine, other in zip(*both, strict=True):
        for name, value in mine.items():
            # One of a client's 4 validation samples or more may change sides by rounding.
            expected = other[name]
            if isinstance(value, float):
                expected = pytest.approx(expected, abs=0.26, nan_ok=True)
            assert value == expected, name


def test_every_client_holds_the_samples_asked_for(made):
    for run in load(made).runs:
        table = pq.read_table(run.path / "partition.parquet", columns=["client_id", "split"])
        rows = table.to_pylist()
        for client in (0, 1):
            held = [r for r in rows if r["client_id"] == client and r["split"] != "test"]
            assert len(held) == 40


def test_a_finished_map_runs_nothing_again_and_a_stale_cell_alone(made, capsys):
    before = stamps(made)
    assert main(command(made)) == 0
    assert stamps(made) == before
    stale = made / "cells" / "s40-a0.5-knfu-seed1" / "run.json"
    stale.write_text(stale.read_text().replace('"finished"', '"running"'))
    capsys.readouterr()
    assert main(command(made)) == 0
    assert "3 are done, 1 to run" in capsys.readouterr().out
    after = stamps(made)
    assert {name for name in after if after[name] != before[name]} == {"s40-a0.5-knfu-seed1"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["num_rounds=3"], "another configuration: got num_rounds=3, allowed: num_rounds=2"),
        (["map.samples=[20]"], "map.samples=20"),  # fewer than a batch
        (["map.samples=[5000]"], "do not fit the data"),
        (["map.methods=[knfoo]"], "Did you mean 'knfu'"),
        (["-m"], "Write lists instead"),
    ],
)
def test_mistakes_cost_one_message_and_nothing_is_run(made, capsys, more, said):
    before = stamps(made)
    kept = [
        line for line in command(made) if line.split("=")[0] not in {m.split("=")[0] for m in more}
    ]
    assert main([*kept, *more]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told
    assert stamps(made) == before


def test_a_key_that_is_newer_than_the_map_had_its_default_there(made, tmp_path, capsys):
    folder = tmp_path / "map"
    shutil.copytree(made, folder)
    for file in folder.glob("cells/*/config.yaml"):
        text = file.read_text()
        assert "  channels: 1\n" in text
        file.write_text(text.replace("  channels: 1\n", "").replace("models: auto\n", ""))
    assert main(command(folder)) == 0
    assert "4 are done, 0 to run" in capsys.readouterr().out
    assert main(command(folder, "dataset.channels=3")) == 2
    assert "got dataset.channels=3" in capsys.readouterr().err


def test_a_file_says_what_words_say_and_mistakes_tell_its_line(made, tmp_path, capsys):
    file = tmp_path / "study.yaml"
    lines = [line.replace("=", ": ") for line in [*GRID, *SMALL]]
    file.write_text("\n".join(lines))
    assert main(["--config-file", str(file), f"map.dir={made}"]) == 0
    assert "4 are done, 0 to run" in capsys.readouterr().out
    for line, told in (
        ("seed: 3", "Use map.seeds"),
        ("sweep: {seed: [1, 2]}", "map.seeds: [0, 1]"),
    ):
        file.write_text("\n".join([*lines, line]))
        assert main(["--config-file", str(file), f"map.dir={made}"]) == 2
        err = capsys.readouterr().err
        assert f"{file}" in err
        assert told in err


def test_a_folder_with_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert main(command(tmp_path)) == 2
    assert "something else than a map" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_interrupted_and_started_again_it_loses_the_cells_in_flight_alone(tmp_path):
    folder = tmp_path / "map"
    lines = [line for line in command(folder) if not line.startswith("num_rounds")]
    lines = [line.replace("map.seeds=[0,1]", "map.seeds=[0,1,2]") for line in lines]
    lines.append("num_rounds=6")
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.map", *lines],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().startswith("2 of 6"):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "goes on" in told
    deadline = time.monotonic() + 300
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a worker was left behind"
        time.sleep(0.1)
    done = {run.path.name for run in load(folder).runs}
    assert 2 <= len(done) < 6
    before = stamps(folder)
    assert main(lines) == 0
    after = stamps(folder)
    assert len(after) == 6
    assert {name: after[name] for name in done} == {name: before[name] for name in done}
