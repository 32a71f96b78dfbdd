"""What a run leaves on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from fedfuse.errors import FedfuseError
from fedfuse.types import MetricRow, RoundRecord
from server.reporters.files import Files
from server.reporters.folder import FORMAT, RunFolder
from server.reporters.protocol import RunInfo

INFO = RunInfo("knfu", ("local", "knfu"), 2, 3, "digits", "iid", "mlp")


def read_metrics(path: Path) -> list[MetricRow]:
    columns = pq.read_table(path).to_pydict()
    return [MetricRow(*row) for row in zip(*columns.values(), strict=True)]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.open(seed=3)
    return made


def record(round_: int, value: float, weights: torch.Tensor | None = None) -> RoundRecord:
    rows = (
        MetricRow(round_, 0, "fused", "accuracy_own", value),
        MetricRow(round_, 1, "fused", "accuracy_own", value / 3),
        MetricRow(round_, -1, "fuse", "bytes_up", 10.0),
    )
    return RoundRecord(round_, rows, weights, {"train": 0.5})


def run(files: Files, rounds: int = 3) -> None:
    files.start(INFO)
    for arm in INFO.arms:
        for round_ in range(1, rounds + 1):
            files.phase(arm, round_, "train")
            files.client_done(0)
            fused = torch.full((2, 2), float(round_)) if arm == "knfu" and round_ > 1 else None
            files.round_done(arm, record(round_, 0.1 * round_ + (arm == "knfu"), fused))


def test_metrics_have_the_promised_schema_and_rows(folder: RunFolder) -> None:
    files = Files(folder)
    run(files)
    files.close()
    table = pq.read_table(folder.path / "metrics.parquet")
    assert table.schema == pa.schema(
        [
            ("round", pa.int32()),
            ("client_id", pa.int32()),
            ("phase", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
        ]
    )
    rows = read_metrics(folder.path / "metrics.parquet")
    assert rows == [row for r in (1, 2, 3) for row in record(r, 0.1 * r + 1).metrics]
    baseline = read_metrics(folder.path / "baseline.parquet")
    assert baseline == [row for r in (1, 2, 3) for row in record(r, 0.1 * r).metrics]


def test_equal_rows_give_equal_bytes_however_often_they_were_flushed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = RunFolder(tmp_path / name)
        folder.open()
        files = Files(folder)
        run(files)
        if name == "b":
            for table in files._tables.values():
                table._unwritten = True
                table.flush()
        files.close()
    for file in ("metrics.parquet", "baseline.parquet", "weights.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_metrics_are_on_disk_after_a_round(folder: RunFolder) -> None:
    files = Files(folder)
    files.start(INFO)
    files.round_done("local", record(1, 0.5))
    assert len(read_metrics(folder.path / "baseline.parquet")) == 3
    assert folder.rounds == 1


def test_writing_metrics_never_takes_most_of_the_time(folder: RunFolder) -> None:
    files = Files(folder)
    files.start(INFO)
    files.round_done("knfu", record(1, 0.5))
    files._tables["knfu"]._cost = 1e9  # as if the last write had been very slow
    files.round_done("knfu", record(2, 0.5))
    assert len(read_metrics(folder.path / "metrics.parquet")) == 3
    files.close()
    assert len(read_metrics(folder.path / "metrics.parquet")) == 6


def test_weights_are_those_of_the_fused_rounds(folder: RunFolder) -> None:
    files = Files(folder)
    run(files)
    files.close()
    kept = load_file(folder.path / "weights.safetensors")
    assert kept["weights"].dtype == np.float32
    assert kept["rounds"].tolist() == [2, 3]
    np.testing.assert_array_equal(kept["weights"], [np.full((2, 2), r) for r in (2.0, 3.0)])
    assert not list(folder.path.glob(".*")), "nothing temporary is left"


def test_a_run_without_fusion_has_no_weights(folder: RunFolder) -> None:
    files = Files(folder)
    run(files, rounds=1)
    files.close()
    assert not (folder.path / "weights.safetensors").exists()


def test_a_second_close_is_harmless(folder: RunFolder) -> None:
    files = Files(folder)
    run(files)
    files.close()
    files.close()


def test_events_are_one_json_object_a_line(folder: RunFolder) -> None:
    files = Files(folder)
    files.start(INFO)
    files.round_done("knfu", RoundRecord(1, (), None, {"train": math.nan}))
    folder.finish({"x": 1})
    events = [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "round", "finished"]
    assert events[0]["arms"] == ["local", "knfu"]
    assert events[1]["seconds"] == {"train": None}
    assert all("time" in event for event in events)


def kept(folder: RunFolder) -> dict[str, Any]:
    return json.loads((folder.path / "run.json").read_text())


def test_run_json_follows_the_run(folder: RunFolder) -> None:
    assert kept(folder) | {"started": 0} == {
        "format": FORMAT,
        "status": "running",
        "started": 0,
        "seed": 3,
    }
    folder.record(device="cpu")
    assert kept(folder)["device"] == "cpu"
    folder.finish({"last": None, "nan": math.nan})
    assert kept(folder)["status"] == "finished"
    assert kept(folder)["seconds"] >= 0
    assert json.loads((folder.path / "summary.json").read_text()) == {"last": None, "nan": None}


def test_a_failed_run_says_why(folder: RunFolder) -> None:
    folder.fail("no more samples")
    assert (kept(folder)["status"], kept(folder)["error"]) == ("failed", "no more samples")


def test_a_folder_with_anything_in_it_is_refused(folder: RunFolder) -> None:
    before = kept(folder)
    with pytest.raises(FedfuseError, match="no run is ever overwritten"):
        RunFolder(folder.path).open(seed=4)
    assert kept(folder) == before


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FedfuseError, match="cannot be written: Not a directory"):
        RunFolder(tmp_path / "file" / "run").open()


def test_discard_leaves_nothing(folder: RunFolder) -> None:
    folder.write_config("a: 1\n")
    folder.discard()
    assert not folder.path.exists()
    folder.discard()


def test_a_file_appears_whole_or_not_at_all(folder: RunFolder) -> None:
    folder.write_config("a: 1\n")

    def write_half() -> None:
        with folder.replacing("config.yaml") as file:
            file.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert (folder.path / "config.yaml").read_text() == "a: 1\n"
    assert not list(folder.path.glob(".*"))
