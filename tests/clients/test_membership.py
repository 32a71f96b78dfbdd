"""Membership inference at the end of a run: what it finds, and that it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from clients.membership import _like
from experiments.run import main
from fedfuse.types import ClientData

QUICK = (
    "dataset=synthetic",
    "num_clients=3",
    "num_rounds=2",
    "public.size=50",
    "model=mlp",
    "evaluation.test_samples=200",
    "baseline=none",
)


def run(folder: Path, *overrides: str) -> tuple[list[tuple], dict]:
    assert main([*QUICK, *overrides, f"hydra.run.dir={folder}"]) == 0
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    return [tuple(row.values()) for row in rows], json.loads((folder / "summary.json").read_text())


def attacks(rows):
    return {(*row[1:4], row[0]): row[4] for row in rows if row[3].startswith("membership")}


def test_the_attack_adds_rows_in_the_last_round_and_changes_no_other(tmp_path):
    before, plain = run(tmp_path / "without")
    after, told = run(tmp_path / "with", "evaluation.membership=true")
    found = attacks(after)
    assert sorted(row for row in after if not row[3].startswith("membership")) == sorted(before)
    assert plain["membership"] is None
    assert {(client, phase, round_) for client, phase, _, round_ in found} == {
        (client, "local", 2) for client in range(3)
    }
    for (_, _, name, _), value in found.items():
        assert 0 <= value <= 1 or name in ("membership_members", "membership_others")
    assert set(told["membership"]["auc"]) == {"loss", "shadow"}


def test_what_is_measured_has_passed_the_privacy_mechanism(tmp_path, capsys):
    noise = ("privacy=gaussian", "privacy.epsilon=null", "privacy.noise_multiplier=1e4")
    rows, told = run(
        tmp_path / "run", "evaluation.membership=true", "evaluation.shadow_models=0", *noise
    )
    names = {name for _, _, name, _ in attacks(rows)}
    assert "membership_loss_auc" in names
    assert "membership_shadow_auc" not in names
    # Nothing but noise is left, so the attack guesses (450 members, 100 others, 3 clients).
    assert abs(told["membership"]["auc"]["loss"] - 0.5) < 0.08
    screen = capsys.readouterr().out
    assert "membership inference on what clients share" in screen
    assert "privacy gaussian: epsilon" in screen


def test_shadow_models_learn_from_others_samples_of_the_clients_classes():
    labels = np.array([0] * 10 + [1] * 10 + [2] * 10)
    client = ClientData(0, train=np.array([0, 1, 10]), val=np.array([2]), test=np.array([0]))
    first, second = _like(client, labels, np.random.default_rng(0))
    assert sorted(labels[first]) == sorted(labels[second]) == [0, 0, 1]
    assert not set(first) & set(second)
    assert not {0, 1, 2, 10} & (set(first) | set(second))
    alone = ClientData(0, train=np.arange(29), val=np.array([29]), test=np.array([0]))
    assert _like(alone, labels, np.random.default_rng(0)) is None
