"""Whole runs with merges: who is held out, several architectures, and other exchanges of models."""

from __future__ import annotations

import numpy as np
import pytest

import fedfuse
from fedfuse import simulate

WORDS = ["dataset.image_size=8", "dataset.num_train=240", "public.size=20"]
WORDS += ["partitioner.min_samples=18", "model=mlp", "client.batch_size=16", "num_clients=4"]
WORDS += ["num_rounds=2", "warmup_rounds=0", "evaluation.test_samples=60", "checkpoint.every=0"]


def accuracies(run: fedfuse.Run, arm: str) -> np.ndarray:
    """Return balanced accuracies of the last round by client."""
    table = run.metrics
    rows = table[(table["arm"] == arm) & (table["metric"] == "accuracy_global")]
    rows = rows[(rows["round"] == 2) & (rows["phase"] == "fused") & (rows["client_id"] >= 0)]
    return rows.sort_values("client_id")["value"].to_numpy()


def test_J_those_held_out_get_the_merged_model_and_train_in_the_baseline() -> None:
    words = ["dataset=synthetic", *WORDS, "method=opcm"]
    some = simulate(*words, "participation=held_in", "participation.clients=2")
    everybody = simulate(*words)
    alone = accuracies(some, "local")
    np.testing.assert_array_equal(alone, accuracies(everybody, "local"))
    merged = accuracies(some, "opcm")
    assert len(merged) == 4
    assert len(set(merged.tolist())) == 1, "one model for all, also those who sent nothing"
    assert set(merged) != set(accuracies(everybody, "opcm"))


@pytest.mark.parametrize(
    "line",
    [
        "method=ditto merge=dare",
        "method=feddf merge=ties exchange.server_steps=3",
        "method=fml merge=opcm client.init=per_client",
        "method=task_arithmetic client.init=per_client merge_base=last_or_mean",
        "method=ties exchange.mixed=group model=cycle",
    ],
)
def test_W9_every_exchange_of_models_may_merge(line: str) -> None:
    words = WORDS
    if "model=cycle" in line:  # LeNet-5 is among them
        words = ["dataset.image_size=16", *(word for word in WORDS[1:] if word != "model=mlp")]
    run = simulate("dataset=synthetic", *words, *line.split(), "baseline=none")
    assert np.isfinite(accuracies(run, run.method)).all()
