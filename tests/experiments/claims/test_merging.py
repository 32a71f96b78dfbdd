"""The table of merges: shares of local accuracy, held in and held out, by hand and of a sweep."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.claims.__main__ import main
from experiments.claims.merging import _shares, _worth

OURS, ALONE = [0.8, 0.9, 0.3, 0.1], [1.0, 0.6, 0.6, 0.0]


def run(seed: int, ours: list[float], alone: list[float] | None = ALONE, **told: object) -> Any:
    def arm(values: list[float]) -> SimpleNamespace:
        return SimpleNamespace(last=lambda test: np.array(values))

    return SimpleNamespace(
        seed=seed,
        config={"participation": told, "num_clients": 4},
        arm=arm(ours),
        baseline=None if alone is None else arm(alone),
    )


def test_J_shares_of_local_accuracy_by_hand() -> None:
    alone, shares = _shares(run(0, OURS, clients=2), "held in", "accuracy_own")
    assert alone.tolist() == [1.0, 0.6]
    assert shares.tolist() == pytest.approx([0.8, 1.5])
    _, shares = _shares(run(0, OURS, clients=2), "held out", "accuracy_own")
    assert shares[0] == pytest.approx(0.5)
    assert np.isnan(shares[1]), "of nothing there is no share"
    assert _shares(run(0, OURS), "held in", "accuracy_own")[0].tolist() == ALONE
    assert not _shares(run(0, OURS), "held out", "accuracy_own")[0].size
    assert not _shares(run(0, OURS, None, clients=2), "held in", "accuracy_own")[1].size


def test_J_a_merge_is_compared_with_the_base_on_the_seeds_of_both() -> None:
    bases = [run(seed, [0.6, 0.6, 0.3, 0.1], clients=2) for seed in (0, 1)]
    ours = [run(seed, OURS, clients=2) for seed in (1, 0, 7)]
    worth = _worth(ours, bases, "held in", "accuracy_own")
    assert worth.local.startswith("80.0 [80.0, 80.0]")
    assert worth.share.startswith("115.0 [")
    assert worth.over is not None
    assert worth.over.mean == pytest.approx((0.2 + 0.5) / 2)  # 0.8 - 0.6, 1.5 - 1
    assert worth.over.seeds == (1, 0)
    assert _worth(bases, bases, "held in", "accuracy_own").over is None
    assert _worth(ours, (), "held out", "accuracy_own").over is None


def test_J_the_table_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.run import main as fedfuse

    small = ["dataset=synthetic", "model=mlp", "num_clients=4", "num_rounds=2", "seed=0,1"]
    small += ["partitioner.sizes=80", "evaluation.every=2", "checkpoint.every=0"]
    small += ["method=fedavg,ties", "participation.clients=2", "client.init=shared"]
    small += [f"hydra.sweep.dir={tmp_path / 's'}"]
    assert fedfuse(["-m", "experiment=merge", *small]) == 0
    capsys.readouterr()
    assert main(["merge", str(tmp_path / "s")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    names = [line.split(" | ")[1] for line in lines if "---" not in line]
    assert names == ["method", "alone", "fedavg", "ties", "over fedavg", "ties"]
    assert {line.count(" | ") for line in lines if "---" not in line} == {5}
    assert "nan" not in "".join(lines)
