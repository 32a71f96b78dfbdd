"""What a run leaves however it ends, for whoever performs it."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from omegaconf import DictConfig

from experiments.config.compose import configure, open_hydra
from experiments.run import main
from experiments.runs import launch, prepare
from experiments.runs.lifecycle import Run, abandon, last_word, open_run, perform
from experiments.runs.resume import reopen_run
from experiments.terminal.console import exit_code
from fedfuse.errors import FedfuseError
from fedfuse.user_code import frames
from server.reporters.folder import RunFolder
from server.reporters.in_memory import InMemory
from tests.tiny import TINY


@pytest.fixture(scope="module")
def cfg() -> DictConfig:
    return configure([*TINY, "num_clients=2", "method=mean"])


class Interrupting(InMemory):
    """Ctrl-C once a round of the method is done."""

    def round_done(self, arm: str, record: Any) -> None:
        super().round_done(arm, record)
        if arm == "mean":
            raise KeyboardInterrupt


def status(path: Path) -> str:
    return str(json.loads((path / "run.json").read_text())["status"])


def test_it_says_nothing_and_leaves_what_the_command_leaves(
    cfg: DictConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = InMemory()
    outcome = perform(open_run(cfg, tmp_path / "run", ["method=mean"]), [watcher])
    assert "run folder" not in "".join(capsys.readouterr())
    assert len(watcher.records["mean"]) == cfg.num_rounds
    assert outcome.absences.rows == []
    assert status(tmp_path / "run") == "finished"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["last"]["round"] == outcome.summary.as_dict()["last"]["round"] == cfg.num_rounds


def test_an_interrupted_run_says_how_it_goes_on_and_does(cfg: DictConfig, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt) as caught:
        perform(open_run(cfg, path, []), [Interrupting()])
    assert caught.value.__notes__ == [
        f"what was done is in {path}",
        f"go on with: fedfuse resume={path}",
    ]
    assert status(path) == "failed"
    perform(reopen_run(path, [f"resume={path}"], open_hydra()))
    perform(open_run(cfg, tmp_path / "whole", []))
    for name in ("metrics.parquet", "weights.safetensors"):
        assert (path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_is_not_performed_after_all_loses_nothing(
    cfg: DictConfig, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    abandon(open_run(cfg, path, []))
    assert not path.exists(), "nothing was measured"
    with pytest.raises(KeyboardInterrupt):
        perform(open_run(cfg, path, []), [Interrupting()])
    abandon(reopen_run(path, [f"resume={path}"], open_hydra()))
    assert status(path) == "failed"
    assert (path / "checkpoint").is_dir()


def test_a_full_disk_is_a_mistake_to_mend(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open(overrides=[])
    with pytest.raises(FedfuseError) as caught, last_word(Run(None, folder)):  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == "the disk is full. Make room; then start the run anew."
    assert status(tmp_path / "run") == "failed"


def test_a_disk_that_is_full_before_the_run_begins_is_one_message_too(
    cfg: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", "there")

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "open", full)
        with pytest.raises(FedfuseError, match="the disk is full"):
            open_run(cfg, tmp_path / "run", [])
    assert exit_code(full, []) == 2
    assert capsys.readouterr().err == (
        "error: the disk is full (there). Make room, then try again.\n"
    )
    with pytest.raises(OSError, match="denied"):
        exit_code(lambda _: (_ for _ in ()).throw(PermissionError(errno.EACCES, "denied")), [])


def test_compiled_code_of_others_is_not_the_authors() -> None:
    code = compile("def write():\n    raise OSError('full')", "pyarrow/_parquet.pyx", "exec")
    there: dict[str, Any] = {"__name__": "pyarrow._parquet"}
    exec(code, there)
    with pytest.raises(OSError, match="full") as caught:
        there["write"]()
    assert ".pyx" not in frames(caught.value)


def test_what_stops_the_tables_leaves_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.summary.table.render", interrupted)
    assert main([*TINY, "num_clients=2", f"hydra.run.dir={tmp_path / 'run'}"]) == 130
    assert status(tmp_path / "run") == "finished"


def test_what_tells_hydra_how_to_start_a_function_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["hydra.job.chdir=true"]) == 2
    assert "hydra.job.chdir would not be read" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_launcher_says_itself_how_many_runs_go_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "BASIC", "another launcher")
    line = ["-m", *TINY, "method=local", "seed=0,1", "workers=2"]
    assert main([*line, f"hydra.sweep.dir={tmp_path / 'sweep'}"]) == 2
    assert "both start the runs of a sweep: got workers=2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_launcher_of_hydras_starts_the_runs_of_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = launch.run

    def failing(cfg: Any, *args: Any) -> Any:
        if cfg.seed == 1:
            raise FedfuseError("no samples left")
        return real(cfg, *args)

    monkeypatch.setattr(launch, "run", failing)
    monkeypatch.setattr(prepare, "BASIC", "another launcher")  # so that Hydra's own is a plug-in
    line = ["-m", *TINY, "num_clients=2", "method=local", "seed=0,1"]
    assert main([*line, f"hydra.sweep.dir={tmp_path / 'sweep'}"]) == 2
    told = capsys.readouterr()
    assert "run 2 of 2: " in told.out
    assert "1 of 2 runs did not finish" in told.out
    assert "no samples left" in told.err
    done = {path.parent.name for path in (tmp_path / "sweep").glob("*/run.json")}
    assert done == {"0-local-seed0"}
    monkeypatch.undo()
    assert main([f"resume={tmp_path / 'sweep'}"]) == 0
