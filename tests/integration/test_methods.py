"""Every bundle, once: mixed architectures where it allows them, and what it costs in steps."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.run import main
from fedfuse.train.trainer import LoopTrainer

METHODS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "experiments/conf/method").glob("*.yaml")
)
ONE_ARCHITECTURE = {
    "fedavg": "averaged",
    "fedavg_adjusted": "averaged",
    "fedavg_ft": "averaged",
    "fedavg_public": "averaged",
    "fedavg_pseudo": "averaged",
    "fedprox": "averaged",
    "fedntd": "averaged",
    "ditto": "averaged",
    "pfedme": "averaged",
    "apfl": "averaged",
    **dict.fromkeys(("task_arithmetic", "ties", "dare", "opcm"), "averaged"),
    "twin": "averaged",
    "layer_swap": "averaged",
    "coalesce": "differ in more than the width",
    **dict.fromkeys(("fedproto", "fedgen", "fedgh", "fedhkd", "fedtgp"), "features have one size"),
    "shared_classifier": "features of one architecture",
}
"""Methods that refuse mixed architectures, and a word of how they say so."""
OTHER_MODELS = {"token_graph": "has no cells"}
"""Methods that refuse a perceptron among them, likewise."""
NO_TRAFFIC = {"local", "local_adjusted", "centralised"}

QUICK = {
    "num_clients": "4",
    "num_rounds": "1",
    "warmup_rounds": "0",
    "dataset": "synthetic",
    "dataset.image_size": "12",
    "dataset.num_train": "600",
    "public.size": "100",
    "partitioner": "iid",
    "evaluation.test_samples": "50",
}


def run(folder: Path, method: str, *overrides: str) -> int:
    chosen = dict(line.split("=", 1) for line in (f"method={method}", *overrides))
    lines = [f"{key}={value}" for key, value in {**QUICK, **chosen}.items()]
    return main([*lines, f"hydra.run.dir={folder}"])


def values(folder: Path, metric: str, phase: str = "fused") -> dict[int, float]:
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    return {
        r["client_id"]: r["value"] for r in rows if r["metric"] == metric and r["phase"] == phase
    }


@pytest.mark.parametrize("method", METHODS)
def test_every_bundle_runs_with_mixed_architectures_or_says_why_not(tmp_path, method, capsys):
    smaller = {"feddf": "exchange.server_steps=20"}.get(method)
    smaller = "select.size=60" if method in ("scarlet", "mean_subset") else smaller
    options = [] if smaller is None else [smaller]
    code = run(tmp_path / "run", method, "model=cycle", "baseline=none", *options)
    refused = {**ONE_ARCHITECTURE, **OTHER_MODELS}
    if method in refused:
        assert code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert refused[method] in message
        assert "predictions" in message  # what to do instead
        assert not (tmp_path / "run" / "metrics.parquet").exists()
        return
    assert code == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["method"] == method
    assert len(values(tmp_path / "run", "accuracy_own")) == 4
    for direction in ("bytes_up", "bytes_down"):
        traffic = values(tmp_path / "run", direction, "fuse")[-1]
        assert (traffic == 0) == (method in NO_TRAFFIC), direction


EVERY_STEP = {"fedavg_adjusted", "fd", "fedkd", "layer_swap", "pfedme"}
"""Of them a whole run counts steps always: one with another control, one of each kind of exchange.

tests/experiments/summary/test_equal_spending.py counts every bundle's, by client and round.
"""


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(one, marks=() if one in EVERY_STEP else pytest.mark.thinned(keep=0))
        for one in sorted({*ONE_ARCHITECTURE, "fd", "fml", "fedkd"})
    ],
)
def test_without_predictions_every_client_takes_as_many_steps_as_the_baseline(
    tmp_path, method, monkeypatch
):
    taken: Counter[tuple[str, int]] = Counter()
    fit = LoopTrainer.fit

    def counted(self, students, works):
        for student, work in zip(students, works, strict=True):
            taken[arm(), student.client_id] += work.schedule.num_steps
        return fit(self, students, works)

    started = []

    def arm():
        return started[-1]

    from server import app

    run_arm = app.run_arm
    monkeypatch.setattr(app, "run_arm", lambda *a, **k: (started.append(a[0]), run_arm(*a, **k))[1])
    monkeypatch.setattr(LoopTrainer, "fit", counted)
    assert run(tmp_path / "run", method, "model=mlp", "num_rounds=3", "warmup_rounds=1") == 0
    control = ["local_adjusted"] if method.endswith("_adjusted") else []
    assert started == ["local", *control, method]
    for other in (*control, method):
        assert {i: taken["local", i] for i in range(4)} == {i: taken[other, i] for i in range(4)}


def test_centralised_takes_the_steps_of_all_clients(tmp_path, monkeypatch):
    taken: Counter[int] = Counter()
    fit = LoopTrainer.fit

    def counted(self, students, works):
        for student, work in zip(students, works, strict=True):
            taken[student.client_id] += work.schedule.num_steps
        return fit(self, students, works)

    monkeypatch.setattr(LoopTrainer, "fit", counted)
    assert run(tmp_path / "a", "local", "model=mlp") == 0
    alone, taken = sum(taken.values()), Counter()
    assert run(tmp_path / "b", "centralised", "model=mlp", "baseline=none") == 0
    assert set(taken) == {0}
    assert taken[0] == alone
    accuracy = values(tmp_path / "b", "accuracy_global")
    assert len(set(accuracy.values())) == 1  # everybody has its model


def test_after_fedavg_everybody_has_the_same_model_and_can_tell_from_the_one_before(tmp_path):
    assert run(tmp_path / "run", "fedavg", "model=mlp", "baseline=none") == 0
    assert len(set(values(tmp_path / "run", "loss_global").values())) == 1
    assert len(set(values(tmp_path / "run", "loss_global", "local").values())) == 4


def test_several_architectures_can_be_averaged_each_by_itself(tmp_path):
    code = run(tmp_path / "run", "fedavg", "model=cycle", "exchange.mixed=group", "baseline=none")
    assert code == 0
    losses = values(tmp_path / "run", "loss_global")
    assert 1 < len(set(losses.values())) < 4  # as many models as architectures


@pytest.mark.parametrize("method", ["fedproto", "ditto", "centralised"])
def test_the_number_of_nodes_does_not_change_a_bit(tmp_path, method):
    for nodes in (1, 3):
        more = ("model=mlp", "num_rounds=2", f"engine.num_nodes={nodes}", "baseline=none")
        assert run(tmp_path / str(nodes), method, *more) == 0
    one, three = (tmp_path / n / "metrics.parquet" for n in ("1", "3"))
    assert one.read_bytes() == three.read_bytes()


def test_models_that_share_weights_are_not_trained_in_batches(tmp_path, capsys):
    assert run(tmp_path / "run", "fedavg", "model=mlp", "trainer=batched") == 2
    assert "trainer=loop" in capsys.readouterr().err


def test_one_average_for_all_leaves_the_server_once_if_it_is_broadcast(tmp_path):
    for method in ("fedavg", "fedproto", "fd"):
        assert run(tmp_path / method, method, "model=mlp", "baseline=none") == 0
        down = values(tmp_path / method, "bytes_down", "fuse")[-1]
        once = values(tmp_path / method, "bytes_down_broadcast", "fuse")[-1]
        numbers = {"fedavg": 144 * 200 + 200 + 200 * 200 + 200 + 2010}.get(method)
        if numbers:
            assert once == 4 * numbers
        assert once == (down if method == "fd" else pytest.approx(down / 4, abs=64))


def test_a_codec_for_predictions_is_refused_where_none_travel(tmp_path, capsys):
    assert run(tmp_path / "run", "fedavg", "model=mlp", "codec=fp16") == 2
    assert "codec=none" in capsys.readouterr().err
