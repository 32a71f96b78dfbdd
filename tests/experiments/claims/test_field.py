"""The table of the field: ranks and what holds over all data sets, by hand and of a sweep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.claims.__main__ import main
from experiments.claims.field import mean_ranks, over_all
from experiments.run import main as fedfuse
from fedfuse.compare import Comparison, compare

OWN, BALANCED = "accuracy_own", "accuracy_global"


def gain(*rows: list[float]) -> Comparison:
    gains = np.array(rows)
    return compare(gains, np.zeros_like(gains), seeds=tuple(range(len(rows))))


def test_ranks_are_places_by_the_mean_gain_equal_ones_at_their_mean() -> None:
    gains = {
        ("a", "x", OWN): gain([0.1]),
        ("b", "x", OWN): gain([0.3]),
        ("c", "x", OWN): gain([0.1]),
        ("a", "y", OWN): gain([0.2]),
        ("b", "y", OWN): gain([-0.2]),
        ("a", "y", BALANCED): gain([9.0]),
    }
    assert mean_ranks(gains, OWN) == {"a": (2.5 + 1) / 2, "b": (1 + 2) / 2, "c": 2.5}
    assert mean_ranks(gains, BALANCED) == {"a": 1.0}


def test_over_all_takes_every_seed_of_every_data_set_for_one_unit() -> None:
    gains = {
        ("a", "x", OWN): gain([0.1, 0.3], [0.2, 0.2]),
        ("a", "y", OWN): gain([0.0, 0.3, 0.6]),
        ("b", "x", OWN): gain([0.5]),
    }
    found = over_all(gains, "a", OWN)
    assert found is not None
    assert np.nanmean(found.gains, axis=1) == pytest.approx([0.2, 0.2, 0.3])
    assert found.mean == pytest.approx(0.7 / 3)
    assert over_all(gains, "b", OWN) is None, "one data set is not all of them"


def test_the_table_of_a_sweep_over_two_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["experiment=table", "num_clients=4", "num_rounds=2", "evaluation.every=2"]
    small += ["partitioner.sizes=60", "public.size=50", "method=fedavg,mean", "seed=0"]
    small += ["dataset=synthetic", "model=mlp"]
    other = ["dataset.kind=features"]
    assert fedfuse(["-m", *small, f"hydra.sweep.dir={tmp_path / 'a'}"]) == 0
    assert fedfuse(["-m", *small, *other, f"hydra.sweep.dir={tmp_path / 'b'}"]) == 0
    capsys.readouterr()
    assert main(["table", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert {line.split(" | ")[0].strip("| ") for line in lines[2:]} == {"local", "mean", "fedavg"}
    assert {line.count(" | ") for line in lines if "---" not in line} == {6}
    assert "nan" not in "".join(lines)
