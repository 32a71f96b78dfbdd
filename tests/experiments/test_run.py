"""What the command does around a run; the run itself is a stub here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from experiments import runs
from experiments.run import main
from experiments.summary.table import Summary, summarise
from fedfuse.errors import DataError
from fedfuse.types import MetricRow, RoundRecord
from server.reporters.protocol import RunInfo

Stub = Callable[..., Summary]


def one_round(cfg: Any, folder: Any, reporter: Any) -> Summary:
    rows = tuple(MetricRow(1, k, "fused", "accuracy_own", 0.5) for k in range(cfg.num_clients))
    info = RunInfo(cfg.method.name, ("knfu",), cfg.num_clients, 1, "data", "iid", "mlp")
    reporter.start(info)
    reporter.phase("knfu", 1, "train")
    reporter.round_done("knfu", RoundRecord(1, rows, None))
    return summarise(rows, None, info)


@pytest.fixture
def launched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Stub], list[tuple[Any, Path]]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def install(stub: Stub = one_round) -> list[tuple[Any, Path]]:
        calls: list[tuple[Any, Path]] = []

        def run(cfg: Any, folder: Any, reporter: Any, *_: Any) -> Summary:
            calls.append((cfg, folder.path))
            return stub(cfg, folder, reporter)

        module = ModuleType("experiments.runs.launch")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "experiments.runs.launch", module)
        monkeypatch.setattr(runs, "launch", module, raising=False)
        return calls

    return install


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_a_run_leaves_its_files(launched: Any, capsys: Any) -> None:
    calls = launched()
    assert main(["num_clients=3", "seed=7"]) == 0
    [(cfg, folder)] = calls
    assert (cfg.num_clients, cfg.seed) == (3, 7)
    assert "hydra" not in cfg
    assert folder.parts[0] == "outputs"
    assert folder.name.endswith("-knfu")
    assert {file.name for file in folder.iterdir()} == {
        "config.yaml", "run.json", "events.jsonl", "metrics.parquet", "summary.json",
    }  # fmt: skip
    kept = record(folder)
    assert kept["status"] == "finished"
    assert kept["seed"] == 7
    assert kept["overrides"] == ["num_clients=3", "seed=7"]
    assert {"python", "fedfuse", "torch", "numpy", "flwr", "hydra-core"} <= set(kept["versions"])
    assert "seconds" in kept
    assert json.loads((folder / "summary.json").read_text())["last"]["round"] == 1
    out, err = capsys.readouterr()
    assert f"run folder: {folder}" in out
    assert "\x1b" not in out, "no escape codes in a pipe"
    assert err == ""


def test_the_written_config_is_resolved(launched: Any) -> None:
    calls = launched()
    assert main(["temperature=3"]) == 0
    folder = calls[0][1]
    text = (folder / "config.yaml").read_text()
    assert "temperature: 3.0" in text
    assert "${" not in text
    assert "\nhydra:" not in text


def test_two_runs_never_share_a_folder(launched: Any) -> None:
    calls = launched()
    assert [main([]), main([]), main(["hydra.run.dir=a"])] == [0, 0, 0]
    assert len({folder for _, folder in calls}) == 3
    assert calls[2][1] == Path("a")
    before = (Path("a") / "run.json").read_bytes()
    assert main(["hydra.run.dir=a"]) == 2
    assert len(calls) == 3
    assert (Path("a") / "run.json").read_bytes() == before


@pytest.mark.parametrize("words", [["hydra.run.dir="], ["-m", "seed=0,1", "hydra.sweep.dir="]])
def test_an_empty_name_is_no_folder(launched: Any, capsys: Any, words: list[str]) -> None:
    launched()
    assert main(words) == 2
    key = words[-1].rstrip("=")
    assert f"error: {key} names no folder: got ''. Name one, or leave" in capsys.readouterr().err


def test_the_default_folder_is_made_unique(launched: Any, monkeypatch: Any) -> None:
    from experiments.runs.reserve import reserve

    with reserve(Path("x/run"), exact=False) as first:
        (first / "f").touch()
    with reserve(Path("x/run"), exact=False) as second:
        assert (first, second) == (Path("x/run"), Path("x/run-2"))
    assert not second.exists(), "an unused folder is given back"
    assert first.exists()


def test_a_folder_with_a_quote_and_spaces(launched: Any) -> None:
    calls = launched()
    assert main(["hydra.run.dir='my run, (1)'"]) == 0
    assert calls[0][1] == Path("my run, (1)")


def test_a_sweep_runs_every_combination(launched: Any, capsys: Any) -> None:
    calls = launched()
    assert main(["-m", "method=local,mean", "seed=0,1", "hydra.sweep.dir=s"]) == 0
    assert [(cfg.method.name, cfg.seed) for cfg, _ in calls] == [
        ("local", 0), ("local", 1), ("mean", 0), ("mean", 1),
    ]  # fmt: skip
    assert [str(folder) for _, folder in calls] == [
        "s/0-local-seed0", "s/1-local-seed1", "s/2-mean-seed0", "s/3-mean-seed1",
    ]  # fmt: skip
    assert "run 3 of 4: method=mean seed=0" in capsys.readouterr().out


def test_flags_may_stand_between_overrides(launched: Any) -> None:
    calls = launched()
    assert main(["method=local", "-m", "seed=0,1"]) == 0
    assert len(calls) == 2


def test_a_sweep_starts_nothing_if_one_combination_is_wrong(launched: Any) -> None:
    calls = launched()
    assert main(["-m", "num_clients=5,0"]) == 2
    assert calls == []
    assert not Path("multirun").exists()


def test_a_mistake_found_while_building_leaves_nothing(launched: Any, capsys: Any) -> None:
    def stub(*_: Any) -> Summary:
        raise DataError("there is no folder '/data'", next_step="Set dataset.path.")

    launched(stub)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: there is no folder '/data'. Set dataset.path.\n"
    assert list(Path.cwd().iterdir()) == []


def test_a_mistake_in_one_run_of_a_sweep_spares_the_others(launched: Any, capsys: Any) -> None:
    def stub(cfg: Any, folder: Any, reporter: Any) -> Summary:
        if cfg.seed == 0:
            raise DataError("no samples left")
        return one_round(cfg, folder, reporter)

    calls = launched(stub)
    assert main(["-m", "seed=0,1", "hydra.sweep.dir=s"]) == 2
    assert len(calls) == 2
    assert sorted(p.name for p in Path("s").iterdir()) == [".sweep", "1-knfu-seed1"]
    assert "error: no samples left" in capsys.readouterr().err


def test_what_was_measured_before_a_mistake_is_kept(launched: Any, capsys: Any) -> None:
    def stub(cfg: Any, folder: Any, reporter: Any) -> Summary:
        one_round(cfg, folder, reporter)
        raise DataError("a client went away")

    calls = launched(stub)
    assert main([]) == 2
    folder = calls[0][1]
    assert record(folder)["status"] == "failed"
    assert record(folder)["error"] == "a client went away."
    assert (folder / "metrics.parquet").exists()
    assert f"what was done is in {folder}" in capsys.readouterr().err


@pytest.mark.parametrize("rounds", [0, 1])
def test_interrupting(launched: Any, capsys: Any, rounds: int) -> None:
    def stub(cfg: Any, folder: Any, reporter: Any) -> Summary:
        if rounds:
            one_round(cfg, folder, reporter)
        raise KeyboardInterrupt

    calls = launched(stub)
    assert main([]) == 130
    folder = calls[0][1]
    assert folder.exists() == bool(rounds)
    if rounds:
        assert record(folder)["error"] == "interrupted"
    else:
        assert list(Path.cwd().iterdir()) == []
    assert capsys.readouterr().err.endswith("interrupted\n")


def test_a_bug_keeps_its_traceback_and_its_folder(launched: Any) -> None:
    def stub(*_: Any) -> Summary:
        raise RuntimeError("a bug")

    calls = launched(stub)
    with pytest.raises(RuntimeError, match="a bug") as caught:
        main([])
    assert any(entry.name == "stub" for entry in caught.traceback)
    assert record(calls[0][1])["status"] == "failed"
    assert record(calls[0][1])["error"] == "RuntimeError: a bug"


def test_a_partitioner_of_ones_own_needs_no_plus(launched: Any) -> None:
    Path("mine_with_ratio.py").write_text("def halves(labels, num_clients, rng, ratio): ...\n")
    calls = launched()
    assert main(["partitioner._target_=mine_with_ratio.halves", "partitioner.ratio=0.3"]) == 0
    assert dict(calls[0][0].partitioner) == {
        "_target_": "mine_with_ratio.halves",
        "ratio": 0.3,
    }


def test_the_current_folder_shadows_no_package(launched: Any) -> None:
    Path("server").mkdir()
    Path("server/__init__.py").write_text("raise RuntimeError('shadowed')\n")
    Path("also_mine.py").write_text("def other(labels, num_clients, rng): ...\n")
    launched()
    assert main(["partitioner._target_=also_mine.other"]) == 0
    assert sys.path[0] != str(Path.cwd())
