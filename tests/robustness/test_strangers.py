"""A run folder from somebody else is data: no code of theirs runs, nothing outside is touched.

Every attack here would work if what it aims at were not refused: the code would run and leave a
marker, the files outside would be read, written or removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.claims.__main__ import main as claims
from experiments.map.command import _folder
from experiments.map.command import main as draw
from experiments.report.command import main as report
from experiments.results.server_model import load_server_model
from experiments.run import main
from experiments.runs.sweep import Sweep
from experiments.runs.sweep_plan import Planned
from fedfuse.errors import FedfuseError
from server import loop
from server.records import checkpoint
from server.records import manifest as manifest_of
from server.reporters.folder import RunFolder
from tests.tiny import TINY

RUN = [*TINY, "num_clients=2", "student=mlp"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was interrupted in its third round of four; copy it."""
    folder = tmp_path_factory.mktemp("strangers") / "broken"
    real, rounds = loop.record, []

    def interrupt(round_: int, *args: Any, **named: Any) -> Any:
        rounds.append(round_)
        if len(rounds) == 3:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        assert main([*RUN, f"hydra.run.dir={folder}"]) == 130
    return folder


@pytest.fixture(scope="module")
def finished(broken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was resumed to its end; copy it."""
    folder = shutil.copytree(broken, tmp_path_factory.mktemp("strangers") / "finished")
    assert main([f"resume={folder}"]) == 0
    return folder


@pytest.fixture
def run(broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(broken, tmp_path / "run")


@pytest.fixture
def done(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(finished, tmp_path / "sweep" / "run").parent


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return somebody's own files, in a folder that an attack leads to."""
    folder = tmp_path / "outside"
    (folder / "rounds").mkdir(parents=True)
    for name in ("mine.safetensors", "rounds/mine.safetensors", "notes.txt", "config.yaml"):
        (folder / name).write_text("seed: 0\n")
    return folder


def tree(folder: Path) -> dict[str, Any]:
    """Return all that is in a folder, links as links."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        here = path.lstat()
        plain = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = (
            here.st_mode, here.st_mtime_ns if plain else 0, path.read_bytes() if plain else None
        )  # fmt: skip
    return found


def refused(argv: list[str], capsys: pytest.CaptureFixture[str], command: Any = main) -> str:
    """Return the one line that a command ends with."""
    capsys.readouterr()
    assert command(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1, said
    return said


def edit(run: Path, change: Callable[[Any], None]) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


POPEN = "_target_: subprocess.Popen, args: [touch, MARKER]"
CODE = {
    "a target": f"{{{POPEN}}}",
    "a target inside of a part": f"{{_target_: fedfuse.models.mlp.mlp, hidden: {{{POPEN}}}}}",
    "a target in a list": f"{{_target_: fedfuse.models.mlp.mlp, hidden: [{{{POPEN}}}]}}",
    "a resolver": f"${{oc.create:{{{POPEN}}}}}",
    "a resolver behind an escape": f'"\\x24{{oc.create:{{{POPEN}}}}}"',
    "a resolver behind another": f'"\\u0024{{oc.create:{{{POPEN}}}}}"',
    "a resolver in two halves": f'"\\x24\\\n  {{oc.create:{{{POPEN}}}}}"',
    "a resolver as a key": f'{{"\\x24{{oc.create:{{{POPEN}}}}}": 1}}',
    "a resolver that decodes": '"\\x24{oc.decode:\\"\\x24{oc.env:HOME}\\"}"',
    "a tag": "!!python/object/apply:subprocess.Popen [[touch, MARKER]]",
    "a merged target": f"{{<<: {{{POPEN}}}}}",
    "a shipped part in another's place": (
        "{_target_: server.reporters.tensorboard.TensorBoard, log_dir: MARKER}"
    ),
    "a member of a shipped part": "{_target_: fedfuse.models.mlp.torch.os.system}",
}


@pytest.mark.parametrize("what", CODE)
def test_no_code_of_a_stranger_runs(
    what: str, run: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "PWNED"
    done = shutil.copytree(finished, tmp_path / "done")
    for folder in (run, done):
        text = (folder / "config.yaml").read_text()
        before, after = text.split("\nstudent:\n")
        after = "\n" + after.split("\n", 1)[1].partition("\nprivacy:")[2]
        hostile = CODE[what].replace("MARKER", str(marker))
        (folder / "config.yaml").write_text(f"{before}\nstudent: {hostile}\nprivacy:{after}")
    for word in ("student", "privacy"):
        assert f"\n{word}:" in (run / "config.yaml").read_text()
    before = tree(run)
    refused([f"resume={run}"], capsys)
    with pytest.raises(FedfuseError):
        load_server_model(done)
    assert not marker.exists()
    assert tree(run) == before


def test_code_of_ones_own_runs_when_it_is_named_again(
    finished: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "from fedfuse.models.mlp import mlp\ndef net(**given): return mlp(**given)\n"
    )
    done = shutil.copytree(finished, tmp_path / "done")
    edit(done, lambda config: config["student"].update(_target_="mine.net"))
    with pytest.raises(FedfuseError, match=r"trust=\['mine.net'\]"):
        load_server_model(done)
    edit(run, lambda config: config["student"].update(_target_="mine.net"))
    said = refused([f"resume={run}"], capsys)
    assert "add student._target_=mine.net to your command" in said
    # It is no longer the run that was begun, which is found out next.
    said = refused([f"resume={run}", "student._target_=mine.net"], capsys)
    assert "student._target_ changed since" in said


REACH: dict[str, Callable[[Any], None]] = {
    "engine.address=203.0.113.7:10001": lambda c: c["engine"].update(
        name="ray", address="203.0.113.7:10001", cpus_per_node=1, gpus_per_node=0, timeout=9
    ),
    "engine.credentials=/tmp/theirs": lambda c: c["engine"].update(
        name="deployment", credentials="/tmp/theirs", port=None, timeout=9
    ),
    "reporter.tracking_uri=http://203.0.113.7": lambda c: c.update(
        reporter={
            "_target_": "server.reporters.mlflow.MLflow",
            "tracking_uri": "http://203.0.113.7",
            "experiment": "x",
        }
    ),
    "reporter._target_=server.reporters.mlflow.MLflow": lambda c: c.update(
        reporter={"_target_": "server.reporters.mlflow.MLflow", "tracking_uri": None}
    ),
    "reporter.log_dir=/tmp/elsewhere": lambda c: c.update(
        reporter={
            "_target_": "server.reporters.tensorboard.TensorBoard",
            "log_dir": "/tmp/elsewhere",
        }
    ),
    "reporter.reporters.0.log_dir=/tmp/elsewhere": lambda c: c.update(
        reporter={
            "_target_": "server.reporters.many.Many",
            "reporters": [
                {
                    "_target_": "server.reporters.tensorboard.TensorBoard",
                    "log_dir": "/tmp/elsewhere",
                }
            ],
        }
    ),
    "dataset.name=stranger/set": lambda c: c.update(
        dataset={"_target_": "fedfuse.data.sources.hub.hub", "name": "stranger/set", "path": None}
    ),
}


@pytest.mark.parametrize("got", REACH)
def test_nothing_leaves_the_machine_unasked(
    got: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run, REACH[got])
    before = tree(run)
    said = refused([f"resume={run}"], capsys)
    assert "reaches beyond the run's folder" in said
    assert got in said
    assert tree(run) == before


def test_a_program_in_a_file_is_not_run_unasked(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = {"_target_": "fedfuse.models.saved.saved_module", "path": "theirs.pt2"}
    features = {"_target_": "fedfuse.data.frozen.Frozen", "module": module}
    edit(run, lambda c: c.update(features=features))
    said = refused([f"resume={run}"], capsys)
    assert "names a program in a file, which is not run unasked" in said
    assert "features.module.path=theirs.pt2" in said


def test_what_reaches_out_may_be_left_out_or_named_again(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for got in ("reporter.log_dir=/tmp/elsewhere", "engine.address=203.0.113.7:10001"):
        edit(run, REACH[got])
    monkeypatch.setattr("experiments.runs.launch.run", lambda cfg, *_: _Stop(cfg).throw())
    with pytest.raises(_Stop) as seen:
        main([f"resume={run}", "reporter=none", "engine.address=203.0.113.7:10001"])
    assert seen.value.cfg.engine.address == "203.0.113.7:10001"
    assert seen.value.cfg.reporter._target_ is None
    with pytest.raises(_Stop) as seen:
        main([f"resume={run}", "reporter=none", "engine=serial"])
    assert seen.value.cfg.engine.name == "serial"


class _Stop(Exception):
    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg

    def throw(self) -> None:
        raise self


def test_a_method_is_not_named_like_a_way(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(run, lambda config: config["method"].update(name="../../outside/x"))
    assert "method.name is not valid" in refused([f"resume={run}"], capsys)
    edit(run, lambda config: config["method"].update(name="x"))
    edit(run, lambda config: config["engine"].update(name="../../outside/x"))
    assert "in group 'engine'" in refused([f"resume={run}"], capsys)


def link(place: Path, target: Path, how: str) -> None:
    """Put something that leads elsewhere where a file or a folder was."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    if how == "pipe":
        os.mkfifo(place)
    elif how == "hard link":
        place.hardlink_to(target)
    else:
        place.symlink_to(target)


LINKS = {
    "checkpoint": "",
    "checkpoint/rounds": "rounds",
    "checkpoint/states": "rounds",
    "checkpoint/000001": "",
    "checkpoint/000002": "",
    "checkpoint/.new": "",
    "checkpoint/000002/manifest.json": "notes.txt",
    "checkpoint/rounds/local-000001.safetensors": "notes.txt",
    "run.json": "notes.txt",
    "config.yaml": "config.yaml",
    "events.jsonl": "notes.txt",
    "metrics.parquet": "notes.txt",
    ".run.json.tmp": "notes.txt",
    ".weights.f32": "notes.txt",
    "engine.log": "notes.txt",
    "tensorboard": "",
}


@pytest.mark.parametrize("place", LINKS)
def test_resume_follows_no_link(
    place: str, run: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link(run / place, outside / LINKS[place], "link")
    before, theirs = tree(run), tree(outside)
    refused([f"resume={run}"], capsys)
    assert tree(outside) == theirs
    assert tree(run) == before


@pytest.mark.parametrize("how", ["hard link", "pipe"])
@pytest.mark.parametrize("place", ["events.jsonl", "run.json", "config.yaml", "engine.log"])
def test_resume_writes_to_no_file_with_another_name_and_waits_for_no_pipe(
    place: str, how: str, run: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link(run / place, outside / "notes.txt", how)
    theirs = tree(outside)
    refused([f"resume={run}"], capsys)
    assert tree(outside) == theirs


def test_a_folder_in_a_files_place_is_found_before_training(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "metrics.parquet").mkdir()
    before = tree(run)
    assert "a folder where a file should be" in refused([f"resume={run}"], capsys)
    assert tree(run) == before


def test_no_run_is_begun_anew_that_another_process_works_on_or_has_finished(
    run: Path, done: Path
) -> None:
    other = RunFolder(run)
    other.take()
    for folder, words in ((run, "still running"), (done / "run", "has finished meanwhile")):
        before = tree(folder)
        cfg = OmegaConf.create({"checkpoint": {"every": 0}})
        with pytest.raises(FedfuseError, match=words):
            Sweep(folder.parent, [Planned(folder.name, ())], [cfg]).open(0)
        assert tree(folder) == before
    other.release()
    other.clear()
    assert not run.exists()


def test_a_forged_manifest_leads_nowhere(
    run: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With hashes that are right, for the files that ``rounds`` leads to."""
    rounds = run / "checkpoint" / "rounds"
    for file in rounds.iterdir():
        shutil.copy(file, outside / file.name)
    link(rounds, outside, "link")
    theirs = tree(outside)
    assert "is a link" in refused([f"resume={run}"], capsys)
    assert tree(outside) == theirs  # mine.safetensors is in no manifest, and stays


@pytest.mark.parametrize("place", ["rounds", "states", "000001", ".new", "000002", ""])
def test_checkpoints_themselves_follow_no_link(place: str, run: Path, outside: Path) -> None:
    """Also where the folder was not looked through before."""
    kept = checkpoint.Checkpoints(run / "checkpoint", 1, 1, {"seed": "0"})
    link(run / "checkpoint" / place, outside, "link")
    theirs = tree(outside)
    for act in (kept.latest, lambda: kept.save("knfu", 3, [], {}), kept.check, kept.clear):
        with suppress(FedfuseError):
            act()
        assert tree(outside) == theirs
    with pytest.raises(FedfuseError, match="no name of a file"):
        kept.note("../../../outside/x", loop.RoundRecord(1, (), None, {}))
    assert tree(outside) == theirs


def test_a_sweeps_baselines_are_no_way_out(
    run: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.parent / ".baselines").symlink_to(outside)
    theirs = tree(outside)
    assert main([f"resume={run}"]) == 0
    assert tree(outside) == theirs


READ = ("run.json", "config.yaml", "summary.json", "metrics.parquet", "baseline.parquet",
        "weights.safetensors", "answers.safetensors", "partition.parquet")  # fmt: skip


@pytest.mark.parametrize("how", ["link", "pipe"])
@pytest.mark.parametrize("name", READ)
def test_a_report_reads_nothing_outside_and_waits_for_no_pipe(
    name: str, how: str, done: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = done / "run" / name
    content = file.read_bytes()
    (outside / "secret").write_bytes(content)  # what would be read is not even damaged
    link(file, outside / "secret", how)
    if how == "pipe" and name == "run.json":  # then it is no run folder
        refused([str(done)], capsys, report)
        return
    said = refused([str(done)], capsys, report)
    assert "is a link" in said or "no plain file" in said or "is missing" in said
    assert not (done / "report.html").exists()


@pytest.mark.parametrize("place", ["report.html", ".report.html.tmp", "figures"])
def test_a_report_writes_nothing_outside(
    place: str, done: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link(done / place, outside / ("" if place == "figures" else "notes.txt"), "link")
    theirs = tree(outside)
    kind = "csv" if place == "figures" else "html"
    code = report([str(done), "--format", kind])
    assert tree(outside) == theirs
    assert code == (0 if place.endswith("tmp") else 2)
    (done / place).unlink(missing_ok=True)
    (done / "figures").mkdir(exist_ok=True)
    for figure in ("comparison.csv", ".comparison.csv.tmp"):
        link(done / "figures" / figure, outside / "notes.txt", "link")
    assert report([str(done), "--format", "csv"]) == 0
    assert tree(outside) == theirs


def test_runs_elsewhere_are_not_part_of_a_sweep(
    done: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done / "run", outside / "run")
    (done / "another").symlink_to(outside / "run")
    assert "'another' is a link" in refused([str(done)], capsys, report).replace(f"{done}/", "")
    assert "is a link" in refused(["k1", str(done)], capsys, claims)


def test_a_map_follows_no_link(
    tmp_path: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["dataset=synthetic", "model=mlp", "map.samples=[60]", "map.alpha=[1]", "num_clients=2"]
    theirs = tree(outside)
    for place in (".lock", "map.log", ".map.png.tmp", "cells", "map.parquet"):
        folder = tmp_path / place
        folder.mkdir()
        (folder / ".lock").touch()
        link(folder / place, outside / ("" if place == "cells" else "notes.txt"), "link")
        if place in (".lock", "cells"):
            assert "is a link" in refused([*argv, f"map.dir={folder}"], capsys, draw)
        with pytest.raises(FedfuseError, match="is a link"), _folder(folder):
            pass
    assert tree(outside) == theirs


LAUGHS = "a: &a [x, x, x, x]\n" + "\n".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}]"
    for old, new in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)
HOSTILE = {
    "aliases": LAUGHS,
    "depth": "a: " + "[" * 5000,
    "a long number": "seed: " + ":".join("1" for _ in range(200_000)),
    "many values": "a: [" + "1," * 400_000 + "]",
    "size": "a: " + "x" * 2**21,
    "a tag": "a: !!set {1, 2}",
    "a bent time": "a: 2020-99-99",
    "a number of nothing": "a: 0x_",
    "bytes": "a: \udcff",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_configurations_end_every_reader_soon(
    what: str, done: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (done / "run", run):
        with (folder / "config.yaml").open("w", errors="surrogateescape") as file:
            file.write(HOSTILE[what])
    for argv, command in (
        ([str(done)], report),
        (["k1", str(done)], claims),
        ([f"resume={run}"], main),
    ):
        assert len(refused(argv, capsys, command)) < 1000
    with pytest.raises(FedfuseError):
        load_server_model(done / "run")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "[" * 100_000),
        ("run.json", "[]"),
        ("run.json", '{"seed": ' + "9" * 6000 + "}"),
        ("summary.json", '{"method": "knfu", "num_clients": 1e12}'),
        ("summary.json", '{"method": "knfu", "num_clients": 99999999999}'),
        ("summary.json", '{"method": "knfu", "num_clients": 2, "clients": [1, 2]}'),
        ("summary.json", '{"method": "knfu", "num_clients": 2}'),
        ("metrics.parquet", "PAR1"),
        ("weights.safetensors", "x"),
        ("answers.safetensors", "x" * 100),
        ("partition.parquet", ""),
    ],
)
def test_damaged_files_of_a_run_cost_one_message(
    name: str, content: str, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (done / "run" / name).write_text(content)
    assert len(refused([str(done)], capsys, report)) < 1000


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(seconds=True),
        lambda told: told.update(dataset=[]),
        lambda told: told["clients"][0]["class_counts"].__setitem__(0, "null"),
        lambda told: told["clients"][0]["class_counts"].append(1),
        lambda told: told["clients"][0].pop("class_counts"),
        lambda told: told.update(attack={"adversaries": [99]}),
        lambda told: told.update(membership={"auc": {"loss": "x"}, "auc_worst": {}, "tpr": {}}),
    ],
)
def test_a_summary_of_another_form_costs_one_message(
    change: Callable[[Any], None], done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((done / "run" / "summary.json").read_text())
    change(told)
    (done / "run" / "summary.json").write_text(json.dumps(told))
    assert "is damaged" in refused([str(done)], capsys, report)


def test_a_table_that_unpacks_to_gigabytes_is_not_unpacked(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    zeros = pa.repeat(pa.scalar(0, pa.int32()), 3_000_000)
    table = pa.table({"round": zeros, "client_id": zeros})
    pq.write_table(table, done / "run" / "metrics.parquet", compression="zstd")
    assert "announces 3000000 rows" in refused([str(done)], capsys, report)


CHANGES = {
    "server.student_epochs": 3,
    "server.student_teaches": True,
    "server.device": "cuda",
    "client.device": "cuda",
    "client.threads": 2,
    "seed": 1,
    "scorer.beta": 9.0,
    "engine.pack": True,
}


@pytest.mark.parametrize("key", CHANGES)
def test_what_results_depend_on_is_refused_by_name(
    key: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group, _, name = key.rpartition(".")
    edit(run, lambda config: (config[group] if group else config).update({name: CHANGES[key]}))
    before = tree(run)
    said = refused([f"resume={run}"], capsys)
    assert f"{key} changed since" in said
    assert f"got {key}={json.dumps(CHANGES[key])}".replace('"', "") in said.replace('"', "")
    assert tree(run) == before


def test_a_run_of_an_older_version_goes_on(run: Path, finished: Path) -> None:
    """Its checkpoints hold one hash of its configuration."""
    from experiments.runs.resumable_keys import legacy_identity
    from experiments.runs.resume import typed_config

    config = yaml.safe_load((run / "config.yaml").read_text())
    fingerprint = json.loads((run / "run.json").read_text())["data_fingerprint"]
    for file in run.glob("checkpoint/*/manifest.json"):
        manifest = json.loads(file.read_text())
        manifest.pop("digest")
        manifest["identity"] = legacy_identity(typed_config(config, run), fingerprint)
        text = json.dumps(manifest, sort_keys=True)
        manifest["digest"] = manifest_of.digest(text.encode())
        file.write_text(json.dumps(manifest))
    assert main([f"resume={run}"]) == 0
    for name in ("metrics.parquet", "baseline.parquet", "server_model.safetensors"):
        assert (run / name).read_bytes() == (finished / name).read_bytes()


def test_who_waited_for_the_lock_does_not_repeat_the_end_of_a_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other process ends the run between this one's start and its lock."""
    real, told = RunFolder._lock, []

    def other_first(self: RunFolder) -> None:
        if not told:
            told.append(self.path)
            assert main([f"resume={run}"]) == 0
            told.append(tree(run))
        real(self)

    monkeypatch.setattr(RunFolder, "_lock", other_first)
    assert main([f"resume={run}"]) == 2
    assert "has finished" in capsys.readouterr().err
    assert tree(run) == told[1]
