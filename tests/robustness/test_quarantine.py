"""A whole run with a client that sends rubbish: it stops, or goes on without it, and says so."""

from __future__ import annotations

import json

import pytest
import torch

from clients.exchange.predictions import Predictions
from experiments.run import main
from fedfuse.payload.payload import map_tensors

QUICK = (
    "dataset=synthetic",
    "num_clients=3",
    "num_rounds=2",
    "warmup_rounds=0",
    "public.size=50",
    "model=mlp",
    "evaluation.test_samples=100",
    "baseline=none",
)


@pytest.fixture
def poisoned(monkeypatch):
    """Let client 1 send numbers that are none, behind the back of every check on its side."""
    share = Predictions.share

    def rubbish(self, held, tools, round_):
        bank = share(self, held, tools, round_)
        guilty = bank.client_ids == 1
        if bool(guilty.any()):
            bank = map_tensors(bank, lambda tensor: tensor.clone())
            bank.logits[guilty] = torch.nan
        return bank

    monkeypatch.setattr(Predictions, "share", rubbish)


def events(folder, kind):
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == kind]


def test_it_stops_the_run_with_a_message(poisoned, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main([*QUICK, f"hydra.run.dir={folder}"]) == 1
    [event] = events(folder, "quarantine")
    assert (event["client"], event["round"], event["phase"]) == (1, 1, "train")
    assert "'logits' of client 1 holds impossible values" in event["reason"]
    told = capsys.readouterr().err
    assert "client 1 failed in round 1" in told
    assert "server.fail_fast=false" in told


def test_the_others_go_on_without_it(poisoned, tmp_path):
    folder = tmp_path / "run"
    assert main([*QUICK, "server.fail_fast=false", f"hydra.run.dir={folder}"]) == 0
    found = events(folder, "quarantine")
    assert [(event["client"], event["round"]) for event in found] == [(1, 1), (1, 2)]
    record = json.loads((folder / "run.json").read_text())
    assert {failure["client_id"] for failure in record["failures"]} == {1}
