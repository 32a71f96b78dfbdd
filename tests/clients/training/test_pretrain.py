"""Pre-training on the labelled public set: alike in both arms, on every node, and after a crash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from clients.training.pretrain import Beginning, Pretraining
from experiments.assembly.node import build_node
from experiments.assembly.parts import build_parts
from experiments.config import compose
from experiments.run import main
from fedfuse.train.work import schedule
from server import loop
from tests.tiny import TINY

LINES = [*TINY, "num_clients=3", "pretrain=public"]


SMALL = ["pretrain.batch_size=16"]


def run(folder: Path, *overrides: str) -> Path:
    chosen = dict(line.split("=", 1) for line in (*LINES, *overrides))
    lines = [f"{key}={value}" for key, value in chosen.items()]
    assert main([*lines, f"hydra.run.dir={folder}"]) == 0
    return folder


def values(file: Path, metric: str, round_: int = 1, phase: str = "local") -> list[float]:
    rows = pq.read_table(file).to_pylist()
    chosen = {"metric": metric, "round": round_, "phase": phase}
    return [r["value"] for r in rows if all(r[key] == value for key, value in chosen.items())]


def beginning(*overrides: str) -> Beginning:
    hydra = compose.open_hydra()
    _, [cfg] = compose.check(hydra, [*LINES, *overrides], multirun=False)
    return build_node(build_parts(cfg), range(3)).beginning


def test_without_patience_it_takes_the_steps_of_a_plain_loop():
    begin = beginning("pretrain.patience=0", "pretrain.epochs=2", "pretrain.val_fraction=0", *SMALL)
    model, steps = begin.pretrained(0)
    assert steps == 2 * 7  # 100 samples in batches of 16
    expected = begin.model(0)
    optimizer = begin.make_optimizer(expected.parameters())
    inputs = begin.inputs.whole_public()
    labels = torch.from_numpy(begin.inputs.data.public.labels)
    generator = begin.streams.torch("pretrain", "public", "mlp")
    for _ in range(2):
        order = schedule(100, 16, 7, generator).order
        for batch in torch.split(order, 16):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(expected(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    for got, wanted in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_it_ends_when_held_back_samples_say_so_and_keeps_the_best_weights(monkeypatch):
    accuracies = iter([0.3, 0.5, 0.4, 0.5, 0.9])  # the third and the fourth are no better
    monkeypatch.setattr("clients.training.pretrain.accuracy", lambda *_: next(accuracies))
    begin = beginning("pretrain.patience=2", "pretrain.epochs=9", *SMALL)
    model, steps = begin.pretrained(0)
    assert steps == 4 * 6  # 90 samples
    begin.pretraining = replace(begin.pretraining, patience=0, epochs=2)
    begin._known.clear()
    best, _ = begin.pretrained(0)
    for got, wanted in zip(model.parameters(), best.parameters(), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize(
    ("more", "epochs"),
    [
        ({}, 6),  # the last that is better is the fourth
        ({"min_delta": 0.001}, 6),
        ({"min_delta": 0.05}, 4),  # which is better than the second by no more than that
    ],
)
def test_patience_counts_what_is_better_by_more_than_min_delta(monkeypatch, more, epochs):
    accuracies = iter([0.3, 0.5, 0.4, 0.545, 0.5, 0.5, 0.9, 0.9, 0.9])
    monkeypatch.setattr("clients.training.pretrain.accuracy", lambda *_: next(accuracies))
    begin = beginning("pretrain.epochs=9", *SMALL)
    begin.pretraining = replace(begin.pretraining, patience=2, keep="last", **more)
    model, steps = begin.pretrained(0)
    assert steps == epochs * 6
    begin.pretraining = replace(begin.pretraining, patience=0, epochs=epochs)
    begin._known.clear()
    last, _ = begin.pretrained(0)
    for got, wanted in zip(model.parameters(), last.parameters(), strict=True):
        assert torch.equal(got, wanted)


def test_the_private_stage_has_a_patience_of_its_own(monkeypatch):
    monkeypatch.setattr("clients.training.pretrain.accuracy", lambda *_: 0.5)
    begin = beginning("pretrain.patience=1", "pretrain.private_epochs=9", *SMALL)
    public = begin.after_public(0)[1]
    assert public == 2 * 6  # the second epoch is no better
    per_epoch = begin.pretrained(0)[1] - public
    begin.pretraining = replace(begin.pretraining, private_patience=3)
    assert begin.pretrained(0)[1] - public == 2 * per_epoch  # 4 epochs in the place of 2


def test_fedmd_pretrained_is_set_up_as_its_authors_code_is():
    _, [cfg] = compose.check(
        compose.open_hydra(), [*TINY, "method=fedmd_pretrained"], multirun=False
    )
    how = build_parts(cfg).pretraining
    assert how == Pretraining(
        epochs=20, patience=3, batch_size=128, min_delta=0.001, keep="last", private_epochs=25,
        private_patience=10,
    )  # fmt: skip
    assert cfg.warmup_rounds == 0
    node = build_node(build_parts(cfg), range(2))
    assert node.plan.private_weight == 0
    first, second = (set(node.inputs.rounds.index(r).tolist()) for r in (1, 2))
    assert len(first) == len(second) == 50  # half of the public set, drawn anew
    assert first != second


def test_distillation_may_have_an_optimiser_of_its_own(tmp_path):
    """Digest and private steps each go on with their own moments, on disk and in batches too."""
    more = ("pretrain=none", "warmup_rounds=0", "num_rounds=3", "baseline=none")
    apart, slow = "client.optimizer_state=separate", "client.distill_lr=0.00001"
    found = {
        name: values(run(tmp_path / name, *more, *lines) / "metrics.parquet", "loss_global", 3)
        for name, lines in {
            "keep": (),
            "separate": (apart,),
            "disk": (apart, "client.state=disk", "engine.num_nodes=2"),
            "batched": (apart, "trainer=batched"),
            "same": (apart, "client.distill_lr=0.001"),
            "slow": (apart, slow),
            "slow disk": (apart, slow, "client.state=disk", "engine.num_nodes=2"),
            "slow batched": (apart, slow, "trainer=batched"),
        }.items()
    }
    assert found["same"] == found["separate"]
    assert found["slow"] != found["separate"]
    assert found["slow disk"] == found["slow"]
    assert found["slow batched"] == pytest.approx(found["slow"], rel=1e-3)
    assert found["separate"] != found["keep"]
    assert found["separate"] == found["disk"]
    assert found["batched"] == pytest.approx(found["separate"], rel=1e-3)


def test_clients_that_begin_alike_end_alike_and_share_the_work():
    begin = beginning()
    calls = []
    fit = begin.trainer.fit
    begin.trainer = type("Counting", (), {})()
    begin.trainer.fit = lambda *a: calls.append(1) or fit(*a)
    begin.trainer.predict = beginning().trainer.predict
    first, steps = begin.pretrained(0)
    taken = len(calls)
    second, same = begin.pretrained(1)
    assert steps == same > 0
    assert len(calls) == taken  # nothing was trained twice
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    own = Pretraining(private_epochs=1)
    begin.pretraining = own
    third, more = begin.pretrained(1)
    assert more > steps
    assert not torch.equal(next(third.parameters()), next(second.parameters()))


def test_both_arms_begin_alike_and_say_how_many_steps_that_took(tmp_path, capsys):
    folder = run(tmp_path / "a")
    ours, twin = folder / "metrics.parquet", folder / "baseline.parquet"
    assert values(ours, "loss_global") == values(twin, "loss_global")
    [steps] = set(values(ours, "pretrain_steps"))
    assert steps == values(twin, "pretrain_steps")[0] > 0
    assert f"{steps:.0f} steps a client, the baseline too" in capsys.readouterr().out
    plain = run(tmp_path / "b", "pretrain=none")
    assert values(plain / "metrics.parquet", "pretrain_steps") == []
    assert values(plain / "metrics.parquet", "loss_global") != values(ours, "loss_global")


def test_the_baseline_may_begin_without_it(tmp_path, capsys):
    folder = run(tmp_path / "a", "pretrain.baseline=false")
    assert "the gain is of both together" in capsys.readouterr().out
    twin = values(folder / "baseline.parquet", "loss_global")
    assert values(folder / "metrics.parquet", "loss_global") != twin
    assert values(folder / "baseline.parquet", "pretrain_steps") == []


def test_neither_nodes_nor_where_states_wait_change_a_bit(tmp_path):
    more = ("pretrain.private_epochs=1", "client.init=per_client", "baseline=none")
    one = run(tmp_path / "1", "client.state=disk", *more)
    three = run(tmp_path / "3", "client.state=context", "engine.num_nodes=3", *more)
    files = [folder / "metrics.parquet" for folder in (one, three)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_many_clients_at_once_begin_as_one_after_the_other(tmp_path):
    loops, batched = (
        run(tmp_path / trainer, f"trainer={trainer}", "baseline=none")
        for trainer in ("loop", "batched")
    )
    assert values(batched / "metrics.parquet", "loss_global") == pytest.approx(
        values(loops / "metrics.parquet", "loss_global"), rel=1e-3
    )


BROKEN = ("pretrain.private_epochs=1", "baseline=none", "num_rounds=3")


def test_a_run_that_was_broken_off_ends_as_if_it_had_not(tmp_path, monkeypatch):
    unbroken = run(tmp_path / "unbroken", *BROKEN)
    real = loop.record

    def interrupt(round_: int, *args: object, **named: object):
        if round_ == 2:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    monkeypatch.setattr(loop, "record", interrupt)
    lines = dict(line.split("=", 1) for line in (*LINES, *BROKEN))
    folder = tmp_path / "broken"
    assert main([*(f"{k}={v}" for k, v in lines.items()), f"hydra.run.dir={folder}"]) == 130
    monkeypatch.undo()
    assert main([f"resume={folder}"]) == 0
    for name in ("metrics.parquet", "weights.safetensors"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["public=noise"], "needs labels of the public set"),
        (["method=local", "pretrain.baseline=false"], "Nobody would pre-train"),
        (["pretrain.val_fraction=1"], "val_fraction"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(tmp_path, capsys, more, words):
    assert main([*LINES, *more, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run" / "metrics.parquet").exists()
