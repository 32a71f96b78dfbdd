"""Who rests gets the last average when it needs it, and every number is as if all had been sent."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from experiments.assembly import server
from experiments.run import main
from tests.experiments.runs.test_resume import killed, same

TWELVE = [
    "dataset=synthetic",
    "dataset.image_size=4",
    "dataset.num_train=300",
    "public.size=20",
    "partitioner=iid",
    "num_clients=12",
    "participation=uniform",
    "participation.fraction=0.25",
    "model=mlp",
    "model.hidden=8",
    "client.batch_size=8",
    "evaluation.test_samples=40",
    "evaluation.resting_sample=4",
    "num_rounds=6",
    "models=save",
]

WAIT = {
    "fedavg": (),
    "fedprox": (),
    "fedntd": (),
    "fedavg_ft": (),
    "fedavg_public": (),
    "fedavg_pseudo": (),
    "fedavg_adjusted": (),
    "ditto": (),
    "apfl": (),
    "fml": (),
    "feddf": ("exchange.server_steps=20", "exchange.mixed=group", "model=cycle"),
    "ties": ("exchange.mixed=group", "model=cycle"),
}
"""Methods whose clients need the last average alone."""

AT_ONCE = ("fedkd", "pfedme", "layer_swap", "centralised")
"""Those that send every average to all."""


def run(folder: Path, *lines: str) -> Path:
    given = dict(line.split("=", 1) for line in (*TWELVE, "baseline=none", *lines))
    if given["model"] == "cycle":  # of convolutions, too
        del given["model.hidden"]
        given["dataset.image_size"] = "12"
    assert main([*(f"{k}={v}" for k, v in given.items()), f"hydra.run.dir={folder}"]) == 0
    return folder


def sent_to_all(folder: Path, *lines: str) -> Path:
    """Run with every average sent to all clients in its round."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "sends_when_needed", lambda _: False)
        return run(folder, *lines)


def without_bytes(folder: Path) -> object:
    table = pq.read_table(folder / "metrics.parquet")
    return table.filter(pc.invert(pc.starts_with(table["metric"], "bytes_down")))


def bytes_down(folder: Path) -> float:
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    return sum(row["value"] for row in rows if row["metric"] == "bytes_down")


def models(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "models").iterdir())}


@pytest.mark.thinned
@pytest.mark.parametrize("resting", ["all", "sample", "none"])
@pytest.mark.parametrize("method", WAIT)
def test_numbers_and_models_are_those_of_sending_to_all(tmp_path, method, resting):
    lines = (f"method={method}", f"evaluation.resting={resting}", *WAIT[method])
    whole, few = sent_to_all(tmp_path / "all", *lines), run(tmp_path / "needed", *lines)
    assert without_bytes(few).equals(without_bytes(whole))
    heard = [(folder / "weights.safetensors").read_bytes() for folder in (few, whole)]
    assert heard[0] == heard[1]
    assert models(few) == models(whole)
    assert len(models(few)) == 13
    share = bytes_down(few) / bytes_down(whole)
    assert share == 1 if resting == "all" else share < 0.8


@pytest.mark.parametrize("method", AT_ONCE)
def test_where_every_average_counts_all_get_it_at_once(tmp_path, method):
    lines = (f"method={method}", "evaluation.resting=none")
    whole, few = sent_to_all(tmp_path / "all", *lines), run(tmp_path / "needed", *lines)
    assert (few / "metrics.parquet").read_bytes() == (whole / "metrics.parquet").read_bytes()


@pytest.mark.thinned
@pytest.mark.parametrize(
    "beside",
    [
        ("faults=dropout", "faults.when=either"),
        ("faults=churn",),
        ("faults=stragglers", "faults.rate=0.6", "faults.max_delay=3", "faults.max_age=3"),
        ("faults=messages", "faults.lost=0.4"),
        ("faults=restarts", "faults.rate=0.5"),
        ("evaluation.every=4",),
        ("evaluation.resting_every=3", "evaluation.resting=all"),
        ("budget=bytes", "budget_bytes=60000"),
        ("probe=consistency", "evaluation.probe_every=1"),
        ("warmup_rounds=3",),
    ],
    ids=lambda lines: lines[0],
)
@pytest.mark.parametrize("method", ["fedavg", "apfl"])
def test_the_same_holds_beside_faults_and_rounds_without_tests(tmp_path, method, beside):
    lines = (f"method={method}", "participation.fraction=0.4", "evaluation.resting=sample", *beside)
    lines = (*lines, "num_rounds=8")
    whole, few = sent_to_all(tmp_path / "all", *lines), run(tmp_path / "needed", *lines)
    assert without_bytes(few).equals(without_bytes(whole))
    assert models(few) == models(whole)
    assert bytes_down(few) < bytes_down(whole) or beside[0] == "budget=bytes"


def test_who_rests_is_tested_only_if_it_is_to_be(tmp_path):
    """Averages reach all clients; whom the figures are about is no method's to say."""
    found = {}
    for method in ("fedavg", "pfedme", "knfu"):
        folder = run(tmp_path / method, f"method={method}", "evaluation.resting=none")
        rows = pq.read_table(folder / "metrics.parquet").to_pylist()
        found[method] = {
            (row["round"], row["client_id"])
            for row in rows
            if row["metric"] == "accuracy_global" and row["phase"] == "fused"
        }
    assert found["fedavg"] == found["pfedme"] == found["knfu"]
    assert len(found["fedavg"]) == 6 * 3


@pytest.mark.parametrize("faults", ["none", "dropout"])
def test_a_killed_run_remembers_what_it_owes(tmp_path, monkeypatch, faults):
    lines = [*TWELVE, "method=fedavg", "evaluation.resting=none", f"faults={faults}"]
    assert main([*lines, f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    broken = tmp_path / "broken"
    killed(broken, monkeypatch, 6 + 4, base=lines)
    assert main([f"resume={broken}"]) == 0
    assert same(broken, tmp_path / "whole")
    assert models(broken) == models(tmp_path / "whole")


@pytest.mark.ray
def test_workers_of_ray_and_states_on_disk_give_the_same(tmp_path):
    lines = ("method=apfl", "evaluation.resting=sample")
    serial = run(tmp_path / "serial", *lines)
    there = run(tmp_path / "ray", *lines, "engine=ray", "engine.num_nodes=3", "client.state=disk")
    assert (there / "metrics.parquet").read_bytes() == (serial / "metrics.parquet").read_bytes()
    assert models(there) == models(serial)


@pytest.mark.deployment
def test_supernodes_give_the_same(tmp_path):
    lines = ("method=fedavg", "evaluation.resting=none", "num_rounds=2", "warmup_rounds=0")
    lines = (*lines, "participation.fraction=0.5", "checkpoint.every=0")
    serial = run(tmp_path / "serial", *lines)
    there = run(tmp_path / "there", *lines, "engine=deployment", "engine.num_nodes=2")
    assert (there / "metrics.parquet").read_bytes() == (serial / "metrics.parquet").read_bytes()
    assert models(there) == models(serial)
