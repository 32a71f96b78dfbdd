"""Of two thousand clients five take part in a round, and the run costs what five clients cost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from clients import handover
from clients.node import Node
from clients.state.states import ClientStates
from experiments.results import read_run
from experiments.run import main
from server import loop
from tests.experiments.runs.test_resume import killed, same

MANY, FEW = 2_000, 5


def federation(clients: int, *lines: str) -> list[str]:
    """Return the command line of a run in which five of so many clients take part."""
    given = {
        "dataset": "synthetic",
        "dataset.image_size": 4,
        "dataset.num_train": 5 * clients + 40,
        "public.size": 40,
        "partitioner": "iid",
        "num_clients": clients,
        "participation": "uniform",
        "participation.fraction": FEW / clients,
        "model": "mlp",
        "model.hidden": 8,
        "client.batch_size": 4,
        "evaluation.test_samples": 60,
        "num_rounds": 3,
    }
    chosen = given | dict(line.split("=", 1) for line in lines)
    return [f"{key}={value}" for key, value in chosen.items()]


def run(folder: Path, *lines: str, clients: int = 100) -> Path:
    assert main([*federation(clients, *lines), f"hydra.run.dir={folder}"]) == 0
    return folder


def rows(folder: Path, *phases: str) -> dict[int, set[int]]:
    """Return whose accuracies of these phases are on record, by round."""
    found: dict[int, set[int]] = {}
    for row in pq.read_table(folder / "metrics.parquet").to_pylist():
        if row["metric"] == "accuracy_global" and row["phase"] in phases:
            found.setdefault(row["round"], set()).add(row["client_id"])
    return found


@contextmanager
def broken_off(round_: int) -> Iterator[None]:
    """Be interrupted at the end of a round of the baseline."""
    real = loop.record

    def interrupt(now: int, *args: object, **named: object):
        if now == round_:
            raise KeyboardInterrupt
        return real(now, *args, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A run in which nobody is tested who rests."""
    folder = tmp_path_factory.mktemp("few") / "none"
    return run(folder, "evaluation.resting=none", clients=MANY)


def test_only_who_takes_part_leaves_a_trace(alone, capsys):
    trained = rows(alone, "local")
    assert {len(ids) for ids in trained.values()} == {FEW}
    assert rows(alone, "fused") == trained
    assert not rows(alone, "aside")
    assert (alone / "weights.safetensors").stat().st_size < 1_000
    weights = read_run(alone).weights
    assert {r: set(ids) for r, ids in zip(weights.rounds, weights.clients, strict=True)} == {
        round_: trained[round_] for round_ in (2, 3)
    }


def test_states_and_checkpoints_are_of_those_who_took_part(tmp_path):
    with broken_off(3):
        lines = federation(100, "evaluation.resting=none")
        assert main([*lines, f"hydra.run.dir={tmp_path / 'run'}"]) == 130
    newest = max((tmp_path / "run" / "checkpoint").glob("0*"))
    states = json.loads((newest / "manifest.json").read_text())["states"]
    arm = pq.read_table(tmp_path / "run" / "baseline.parquet").to_pylist()
    asked = [{row["client_id"] for row in arm if row["round"] == r} - {-1} for r in (1, 2)]
    kept = {name: set(ids) for name, (_, _, ids) in states.items()}
    assert set.union(*kept.values()) == asked[0] | asked[1]
    assert {name[:6] for name in kept} == {"000001", "000002"}
    first = set.union(*(ids for name, ids in kept.items() if name.startswith("000001")))
    assert first == asked[0] - asked[1]


def test_a_sample_is_judged_in_every_round_and_in_both_arms(tmp_path, capsys):
    folder = run(tmp_path / "run", "evaluation.resting=sample", "evaluation.resting_sample=7")
    judged = rows(folder, "fused")
    assert len(judged[1]) == 7
    assert judged[1] == judged[2] == judged[3]
    everybody = rows(folder, "fused", "aside")
    assert all(ids == judged[1] | rows(folder, "local")[r] for r, ids in everybody.items())
    assert "the figures are of a sample, 7 of 100 clients" in capsys.readouterr().out


@pytest.mark.parametrize(
    "beside",
    [
        ("faults=dropout", "participation.fraction=0.2"),
        ("guard=validation",),
        ("guard=ensemble",),
        ("budget=bytes", "budget_bytes=20000"),
    ],
    ids=lambda lines: lines[0],
)
def test_whoever_is_judged_stays_so_beside_faults_guards_and_a_byte_budget(tmp_path, beside):
    sample = ("evaluation.resting=sample", "evaluation.resting_sample=40")
    folder = run(tmp_path / "run", *sample, *beside, "num_rounds=4")
    judged = rows(folder, "fused")
    whole = set.union(*judged.values())
    assert len(whole) == 40
    absent = {
        (event["round"], event["client"])
        for event in map(json.loads, (folder / "events.jsonl").read_text().splitlines())
        if event["event"] == "absent"
    }
    for round_ in range(1, 5):
        missing = {(round_, client) for client in whole - judged[round_]}
        assert missing <= absent, "who is missing could not be reached"
    assert not set.union(set(), *rows(folder, "aside").values()) & whole


def test_only_who_will_share_makes_up_a_secret(tmp_path, monkeypatch):
    begun: list[int] = []
    real = handover.prepare

    def prepare(node: Node, header: object, client_ids: list[int]) -> None:
        begun.extend(client_ids)
        real(node, header, client_ids)

    monkeypatch.setattr(handover, "prepare", prepare)
    folder = run(tmp_path / "run", "evaluation.resting=none", "privacy=gaussian")
    assert begun == sorted(set.union(*rows(folder, "local").values()))


def test_who_rests_is_tested_now_and_then(tmp_path, capsys):
    folder = run(
        tmp_path / "run",
        "evaluation.resting_every=2",
        "baseline=none",
        "evaluation.test_samples=10",
    )
    assert {r: len(ids) for r, ids in rows(folder, "fused").items()} == {2: 100, 3: 100}
    assert {r: len(ids) for r, ids in rows(folder, "aside").items()} == {1: FEW}
    assert "one of 2 tested rounds" in capsys.readouterr().out


def test_a_test_of_who_rests_leaves_nothing_behind(tmp_path, monkeypatch):
    """With states in the process and in files alike; and what they say is the same."""
    held: list[int] = []
    real = Node.test

    def test(self: Node, *args: object):
        answer = real(self, *args)
        held.append(len(self.states._states))
        return answer

    monkeypatch.setattr(Node, "test", test)
    sample = ("evaluation.resting=sample", "evaluation.resting_sample=50", "baseline=none")
    live = run(tmp_path / "live", *sample)
    assert max(held) <= 3 * FEW
    monkeypatch.setattr(ClientStates.__init__, "__defaults__", (0,))  # nothing stays in memory
    disk = run(tmp_path / "disk", *sample, "client.state=disk", "engine.num_nodes=2")
    assert (live / "metrics.parquet").read_bytes() == (disk / "metrics.parquet").read_bytes()


@pytest.mark.parametrize("newest", ["there", "gone"])
def test_a_killed_run_goes_on_from_differences(tmp_path, monkeypatch, newest):
    lines = federation(
        20,
        "evaluation.resting=sample",
        "evaluation.resting_sample=8",
        "participation.fraction=0.25",  # many come again
        "num_rounds=4",
    )
    assert main([*lines, f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    broken = tmp_path / "broken"
    killed(broken, monkeypatch, 4 + 2, base=lines)
    if newest == "gone":
        shutil.rmtree(max((broken / "checkpoint").glob("0*")))
    assert main([f"resume={broken}"]) == 0
    assert same(broken, tmp_path / "whole")
