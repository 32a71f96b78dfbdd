"""TensorBoard and MLflow get a run's numbers, and a missing package costs one message."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.run import main
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.types import MetricRow, RoundRecord
from server.reporters import extras
from server.reporters.protocol import RunInfo
from server.reporters.scalars import scalars

ARMS = ("local", "knfu")


def info(folder: Path | None = None, rounds: int = 2) -> RunInfo:
    config = {"seed": 3, "client": {"batch_size": 32}}
    return RunInfo("knfu", ARMS, 2, rounds, "digits", "iid", "mlp", folder=folder, config=config)


def record(round_: int, own: tuple[float, float] = (0.5, 0.75)) -> RoundRecord:
    rows = [MetricRow(round_, k, "fused", "accuracy_own", own[k]) for k in (0, 1)]
    rows += [MetricRow(round_, k, "fused", "loss_own", 1.0 + k) for k in (0, 1)]
    rows += [MetricRow(round_, k, "local", "accuracy_own", 0.25) for k in (0, 1)]
    rows += [MetricRow(round_, 0, "fuse", "self_weight", 0.5)]
    rows += [MetricRow(round_, -1, "fuse", "bytes_up", 100.0)]
    weights = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    return RoundRecord(round_, tuple(rows), weights, {"train": 1.5})


def test_a_round_becomes_means_worsts_bytes_and_seconds() -> None:
    assert scalars(record(1)) == {
        "accuracy_own/mean": 0.625,
        "accuracy_own/worst": 0.5,
        "loss_own/mean": 1.5,
        "loss_own/worst": 2.0,
        "before_fusion/accuracy_own/mean": 0.25,
        "before_fusion/accuracy_own/worst": 0.25,
        "fusion/self_weight/mean": 0.5,
        "bytes_up": 100.0,
        "seconds/train": 1.5,
    }


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from server.reporters.tensorboard import TensorBoard

    reporter = TensorBoard()
    reporter.start(info(tmp_path))
    for arm in ARMS:
        reporter.round_done(arm, record(1))
        reporter.round_done(arm, record(2, (0.9, 0.7)))
    reporter.close()
    for arm in ARMS:
        events = EventAccumulator(str(tmp_path / "tensorboard" / arm)).Reload()
        points = events.Scalars("accuracy_own/mean")
        assert [point.step for point in points] == [1, 2]
        assert [point.value for point in points] == pytest.approx([0.625, 0.8])
    assert len(events.Images("fusion/weights")) == 2
    assert (
        b"client.batch_size: 32"
        in events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0]
    )


def test_tensorboard_keeps_runs_apart_in_a_folder_of_the_users(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from server.reporters.tensorboard import TensorBoard

    reporter = TensorBoard(log_dir=str(tmp_path / "logs"))
    reporter.start(info(tmp_path / "run-7"))
    reporter.close()
    assert sorted(p.name for p in (tmp_path / "logs" / "run-7").iterdir()) == ["knfu", "local"]


@pytest.fixture
def store(tmp_path: Path) -> str:
    pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.slow
def test_mlflow_reads_back_what_was_written(store: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    from server.reporters.mlflow import MLflow

    client = MlflowClient(tracking_uri=store)
    for lost, status in ((False, "FINISHED"), (True, "FAILED")):
        reporter = MLflow(tracking_uri=store, experiment="trial")
        reporter.start(info(tmp_path / status))
        reporter.round_done("local", record(1, (0.1, 0.3)))
        reporter.round_done("local", record(2, (0.1, 0.3)))
        reporter.round_done("knfu", record(1))
        if not lost:
            reporter.round_done("knfu", record(2, (0.9, 0.7)))
        reporter.close()
        experiment = client.get_experiment_by_name("trial")
        (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{status}'")
        assert run.info.status == status
    assert run.data.params == {"seed": "3", "client.batch_size": "32"}
    (done,) = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    history = client.get_metric_history(done.info.run_id, "accuracy_own/mean")
    assert [(m.step, m.value) for m in history] == [(1, 0.625), (2, pytest.approx(0.8))]
    (first, _) = client.get_metric_history(done.info.run_id, "local/accuracy_own/mean")
    assert first.value == pytest.approx(0.2)


def test_an_mlflow_that_cannot_be_reached_stops_the_run_before_it_starts(store: str) -> None:
    from server.reporters.mlflow import MLflow

    with pytest.raises(FedfuseError, match="MLflow cannot be reached"):
        MLflow(tracking_uri="nonsense://nowhere").start(info())


def test_an_mlflow_that_is_lost_is_told_of_once(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from server.reporters.mlflow import MLflow

    def gone(*_: object, **__: object) -> None:
        raise MlflowException("connection lost")

    reporter = MLflow(tracking_uri=store)
    reporter.start(info())
    monkeypatch.setattr(MlflowClient, "log_batch", gone)
    for round_ in (1, 2):
        reporter.round_done("knfu", record(round_))
    reporter.close()
    assert capsys.readouterr().err.count("connection lost") == 1


@pytest.mark.parametrize("extra", ["tensorboard", "mlflow"])
def test_a_missing_package_costs_one_message_and_no_training(
    extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == extra else real(name))
    monkeypatch.chdir(tmp_path)
    assert main([f"reporter={extra}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: reporter={extra} needs the package '{extra}'")
    assert f"pip install -c constraints.txt -e '.[{extra}]'" in told
    assert not list(tmp_path.iterdir())


def test_anything_that_watches_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "watching.py").write_text(
        "class Diary:\n"
        "    def __init__(self, path): self.path = path\n"
        "    def start(self, info): self._say(f'{info.folder.name} {info.config[\"seed\"]}')\n"
        "    def phase(self, arm, round_, phase): pass\n"
        "    def client_done(self, client_id): pass\n"
        "    def round_done(self, arm, record): self._say(f'{arm} {record.round}')\n"
        "    def close(self): self._say('end')\n"
        "    def _say(self, line):\n"
        "        with open(self.path, 'a') as file: file.write(line + '\\n')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    line = (
        "dataset=synthetic model=mlp num_clients=2 num_rounds=2 seed=5 hydra.run.dir=here "
        "reporter._target_=watching.Diary reporter.path=diary.txt"
    )
    assert main(line.split()) == 0
    said = (tmp_path / "diary.txt").read_text().splitlines()
    assert said == ["here 5", "local 1", "local 2", "knfu 1", "knfu 2", "end"]


def test_a_run_that_breaks_before_its_first_round_leaves_nothing_of_a_reporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    monkeypatch.chdir(tmp_path)

    def broken(_: object, setup: Any, folder: Any) -> None:
        setup.reporter.start(setup.info)
        assert (folder.path / "tensorboard").is_dir()
        raise FedfuseError("the engine is out of oil")

    monkeypatch.setattr("experiments.engines.serial.run", broken)
    line = "dataset=synthetic model=mlp num_clients=2 num_rounds=2 reporter=tensorboard"
    assert main([*line.split(), "hydra.run.dir=here"]) == 2
    assert not (tmp_path / "here").exists()


def test_a_missing_extra_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="needs the package 'no_such_package'"):
        extras.require_extra("mlflow", ["no_such_package"])
