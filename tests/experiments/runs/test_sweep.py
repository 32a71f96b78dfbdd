"""A sweep that was interrupted goes on as a whole, with the numbers of one that was not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments.run import main
from experiments.runs import sweep_plan
from fedfuse.errors import ConfigError, FedfuseError
from server.reporters.lines import Lines
from tests.tiny import TINY

SWEEP = ["-m", *TINY, "num_clients=2", "method=mean,knfu,fedmd"]
FILES = ("metrics.parquet", "baseline.parquet", "weights.safetensors", "config.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "sweep"
    assert main([*SWEEP, f"hydra.sweep.dir={folder}"]) == 0
    return folder


def interrupted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, rounds: int = 5
) -> None:
    """Interrupt the sweep after a round of its second run."""
    printed = Lines.round_done
    left = iter(range(5))

    def interrupt(self: Lines, arm: str, record: object) -> None:
        printed(self, arm, record)  # type: ignore[arg-type]
        if next(left, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "round_done", interrupt)
        assert main([*SWEEP, *words, f"hydra.sweep.dir={folder}"]) == 130


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        interrupted(folder, patch)
    return folder


@pytest.fixture
def broken(kept: Path, tmp_path: Path) -> Path:
    """A copy of an interrupted sweep."""
    shutil.copytree(kept, tmp_path / "sweep")
    return tmp_path / "sweep"


@pytest.mark.parametrize("every", [1, 0])
def test_it_goes_on_with_the_broken_run_and_those_that_never_began(
    every: int,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "sweep"
    interrupted(folder, monkeypatch, f"checkpoint.every={every}")
    said = capsys.readouterr().err
    assert f"1 of 3 runs are done. Go on with the sweep: fedfuse resume={folder}" in said
    first = (folder / "0-mean-seed0" / "run.json").read_bytes()
    assert main([f"resume={folder}"]) == 0
    out = capsys.readouterr().out
    assert "sweep of 3 runs" in out
    assert "1 are done, 2 to run" in out
    assert "run 2 of 3" in out
    assert f"as a page: fedfuse-report {folder}" in out
    assert (folder / "0-mean-seed0" / "run.json").read_bytes() == first, "it was done"
    runs = sorted(path.name for path in whole.iterdir() if path.name[0].isdigit())
    assert runs == sorted(path.name for path in folder.iterdir() if path.name[0].isdigit())
    for run in runs:
        assert json.loads((folder / run / "run.json").read_bytes())["status"] == "finished"
        for name in FILES[: 4 if every else 3]:
            assert (folder / run / name).read_bytes() == (whole / run / name).read_bytes(), run


def test_a_finished_sweep_says_so(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"resume={whole}"]) == 2
    assert "all 3 runs of the sweep" in capsys.readouterr().err


def test_two_processes_do_not_go_on_with_one_sweep(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sweep_plan.held(whole):
        assert main([f"resume={whole}"]) == 2
    assert "still running" in capsys.readouterr().err


def test_what_changes_results_is_refused(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"resume={broken}", "num_rounds=3"]) == 2
    assert "a resumed run keeps its configuration" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "a/../../b", ".baselines", "", 3])
def test_a_strangers_plan_names_no_folder_outside(name: object, tmp_path: Path) -> None:
    (tmp_path / ".sweep").mkdir()
    plan = {"format": 1, "runs": [{"folder": name, "overrides": []}]}
    (tmp_path / ".sweep" / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match="cannot be read"):
        sweep_plan.read(tmp_path)


def test_a_strangers_sweep_runs_no_code_of_theirs(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, marker = broken, tmp_path / "ran"
    file = folder / ".sweep" / "2.yaml"
    text = file.read_text()
    evil = f"partitioner:\n  _target_: subprocess.Popen\n  args: [touch, {marker}]\n"
    file.write_text(evil + text[: text.index("partitioner:")])
    assert main([f"resume={folder}"]) == 2
    assert "subprocess.Popen" in capsys.readouterr().err
    assert not marker.exists()
    assert not (folder / "2-fedmd-seed0").exists()


def test_a_link_in_a_strangers_sweep_is_not_followed(broken: Path, tmp_path: Path) -> None:
    folder, outside = broken, tmp_path / "outside"
    outside.mkdir()
    (folder / "2-fedmd-seed0").symlink_to(outside)
    assert main([f"resume={folder}"]) == 2
    assert not list(outside.iterdir())


def test_a_plan_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".sweep").mkdir()
    for text in ("", "[]", "{}", '{"format": 2, "runs": []}', '{"format": 1, "runs": [1]}'):
        (tmp_path / ".sweep" / "plan.json").write_text(text)
        with pytest.raises(FedfuseError, match="cannot be read"):
            sweep_plan.read(tmp_path)
