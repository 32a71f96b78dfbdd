"""What arms of one comparison spend alike."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from experiments.assembly.node import build_node
from experiments.assembly.parts import build_parts
from experiments.config import compose
from experiments.config.comparison_keys import baseline_identity
from experiments.summary.spending import spending
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.train.work import samples_processed, schedule, steps_to_process
from fedfuse.types import Space, Teachers
from server.fusion.byte_budget import ByteBudget

SMALL = ["dataset=synthetic", "num_clients=2", "model=mlp", "public.size=100"]


def configured(*lines: str):
    _, (whole,) = compose.check(compose.open_hydra(), [*SMALL, *lines], multirun=False)
    cfg = OmegaConf.masked_copy(whole, [k for k in map(str, whole) if k != "hydra"])
    OmegaConf.resolve(cfg)
    return cfg


@pytest.mark.parametrize("private_weight", [0.0, 1.0])
def test_local_training_processes_exactly_the_samples_of_distillation(private_weight):
    cfg = configured("budget=samples", f"client.private_weight={private_weight}")
    node = build_node(build_parts(cfg), (0, 1))
    uniform = torch.full((2, 100, 10), 0.1)
    teachers = Teachers(torch.arange(2), uniform, Space.PROBABILITIES)
    taught = node.work_plan.distillation([0, 1], 2, teachers)
    alone = node.work_plan.budget_matched([0, 1], 2)
    for there, here in zip(taught, alone, strict=True):
        seen = sum(there.schedule.sizes)
        assert (there.anchor is None) == (private_weight == 0)
        if there.anchor is not None:
            seen += sum(there.anchor.schedule.sizes)
        assert sum(here.schedule.sizes) == len(here.schedule.order) == seen
        assert max(here.schedule.sizes) <= cfg.client.batch_size


def test_those_held_out_train_alone_as_if_nobody_were() -> None:
    """One baseline serves any number of clients held in, and a run with all of them."""
    held = [configured("participation=held_in", f"participation.clients={n}") for n in (1, 2)]
    found = {baseline_identity(cfg, "x") for cfg in (*held, configured())}
    assert len(found) == 1
    assert baseline_identity(configured("participation=uniform"), "x") not in found


def test_equal_steps_stay_what_they_were():
    node = build_node(build_parts(configured()), (0,))
    assert node.work_plan.budget_matched([0], 2)[0].schedule.num_steps == 2  # 100 in batches of 64


@pytest.mark.parametrize("num_samples", [1, 31, 32, 33, 70])
def test_steps_and_samples_agree_with_the_schedule(num_samples):
    for steps in range(1, 9):
        plan = schedule(num_samples, 32, steps, torch.Generator().manual_seed(0))
        seen = samples_processed(num_samples, 32, steps)
        assert seen == sum(plan.sizes)
        assert steps_to_process(num_samples, 32, seen) == steps
        cut = plan.cut(max(1, seen - 1))
        assert sum(cut.sizes) == len(cut.order) == max(1, seen - 1)


def test_a_baseline_depends_on_the_mixed_batches_only_where_samples_are_equal():
    def names(*lines: str) -> set[str]:
        weights = ("client.private_weight=0", "client.private_weight=1")
        return {baseline_identity(configured(*lines, w), "data") for w in weights}

    assert len(names()) == 1
    assert len(names("budget=samples")) == 2


def test_how_steps_are_taken_is_a_key_of_the_baseline_and_unsaid_as_it_was():
    other = ("lr_schedule=cosine", "lr_schedule.warmup=1", "client.clip_norm=1")
    other = (*other, "private_augment=crop_flip")
    known = {baseline_identity(configured(), "data")}
    known |= {baseline_identity(configured(line), "data") for line in other}
    assert len(known) == 5
    old = OmegaConf.create(OmegaConf.to_container(configured()))
    del old["lr_schedule"], old["private_augment"], old.client["clip_norm"]
    assert baseline_identity(old, "data") == baseline_identity(configured(), "data")


def test_a_budget_affords_exchanges_while_the_largest_fits():
    budget = ByteBudget(100)
    assert budget.affords()
    budget.book(0)  # a round of warm-up
    budget.book(40)
    assert budget.affords()
    budget.book(30)
    assert not budget.affords()  # 70 are spent, the next may cost 40
    other = ByteBudget(100)
    other.restore(budget.state())
    assert (other.spent, other.largest, other.affords()) == (70, 40, False)
    assert ByteBudget().affords()


def test_a_budget_below_one_exchange_is_a_mistake():
    with pytest.raises(FedfuseError, match="at least 101"):
        ByteBudget(100).book(101)


@pytest.mark.parametrize("lines", [["budget=bytes"], ["budget_bytes=5"]])
def test_bytes_need_a_number_and_a_number_needs_bytes(lines):
    with pytest.raises(ConfigError, match="go together"):
        configured(*lines)


def test_a_run_stops_exchanging_when_its_bytes_are_spent(tmp_path):
    import json

    import pyarrow.parquet as pq

    from experiments.run import main

    folder = tmp_path / "run"
    lines = ["num_rounds=4", "budget=bytes", "budget_bytes=33000", "warmup_rounds=0"]
    assert main([*SMALL, *lines, f"hydra.run.dir={folder}"]) == 0
    told = json.loads((folder / "run.json").read_text())["budget"]
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    spent = {
        r["round"]: sum(
            o["value"]
            for o in rows
            if o["round"] == r["round"] and o["metric"] in ("bytes_up", "bytes_down")
        )
        for r in rows
    }
    assert [spent[r] > 0 for r in (1, 2, 3, 4)] == [True, True, False, False]
    assert told["bytes_spent"] == sum(spent.values()) <= told["bytes_allowed"] == 33000
    assert told["rounds_that_exchanged"] == 2
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    work_plan = [
        (e["round"], e["phase"]) for e in events if e["event"] == "phase" and e["arm"] != "local"
    ]
    assert (3, "distill") in work_plan  # as many steps as before, on private data
    assert (3, "fuse") not in work_plan


def told(budget, ours, twins):
    cfg = configured(f"budget={budget}", "method=fml")
    return spending(cfg, ours, twins)


def test_the_closing_table_says_what_both_arms_spent():
    ours = {"steps": {0: 10.0, 1: 20.0}, "samples": {0: 100.0, 1: 150.0}}
    other = {"steps": {0: 10.0, 1: 14.0}, "samples": {0: 100.0, 1: 150.0}}
    same = told("optimiser_steps", ours, ours)
    assert same.unlike == 0
    assert (
        same.lines()[0] == "a client took 15 optimiser steps on 125 samples, as in local training"
    )
    assert same.lines()[1] == "  by design: a step moves both models of a client"
    unlike = told("optimiser_steps", ours, other)
    assert (unlike.unlike, unlike.baseline_steps) == (1, 12.0)
    assert "in local training 12 on 125" in unlike.lines()[0]
    assert unlike.lines()[1] == "  1 client took other steps than in local training"
    assert told("samples", ours, other).unlike == 0
    assert told("rounds", ours, other).unlike is None
    assert told("optimiser_steps", ours, None).unlike is None


def test_runs_of_an_earlier_version_did_not_count():
    assert told("optimiser_steps", {"steps": {}, "samples": {}}, None) is None
