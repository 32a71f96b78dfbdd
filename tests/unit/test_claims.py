"""The tables of KnFu's claims, on planted numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.claims.__main__ import main
from experiments.claims.planted import mass_inside, precision_at, self_mass

GROUPS = np.array([0, 0, 0, 1, 1])


def test_planted_neighbours_by_hand():
    weights = np.array(
        [
            [0.4, 0.3, 0.1, 0.2, 0.0],  # of the two best others, 1 and 3, one is of the group
            [0.2, 0.6, 0.2, 0.0, 0.0],
            [0.0, 0.0, 0.2, 0.4, 0.4],  # none
            [0.0, 0.0, 0.1, 0.5, 0.4],  # its group has one other only
            [0.0, 0.0, 0.0, 0.0, 1.0],  # ties go to the smaller id: client 0, a stranger
        ]
    )
    assert precision_at(weights, GROUPS, 2) == pytest.approx((1 + 2 + 0 + 1 + 0) / 8)
    assert mass_inside(weights, GROUPS) == pytest.approx((0.8 + 1.0 + 0.2 + 0.9 + 1.0) / 5)
    assert self_mass(weights) == pytest.approx(2.7 / 5)


def test_clients_that_did_not_answer_do_not_count():
    weights = np.zeros((5, 5))
    assert np.isnan(precision_at(weights, GROUPS, 1))
    weights[0] = [0.5, 0.5, 0, 0, 0]
    assert precision_at(weights, GROUPS, 1) == 1.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "got nothing"),
        (["k2", "x"], "one of k1, k3"),
        (["k3", "nowhere"], "is not a folder"),
        (["k3"], "needs the claim and a folder"),
    ],
)
def test_mistakes_cost_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert error.count("\n") == 1


def test_tables_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.run import main as fedfuse

    common = ["dataset=synthetic", "model=mlp", "num_rounds=2", "num_clients=4"]
    planted = ["partitioner=label_groups", "partitioner.num_groups=2", "method=knfu,mean"]
    assert fedfuse(["-m", *common, *planted, f"hydra.sweep.dir={tmp_path / 's'}"]) == 0
    capsys.readouterr()
    for claim, columns in (("k3", 8), ("k9", 6), ("k11", 6)):
        assert main([claim, str(tmp_path / "s")]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4  # heading, rule, two methods
        assert {line.count(" | ") for line in lines if "---" not in line} == {columns - 1}
    assert "20.0" in lines[2]  # 500 public samples of ten classes, 4 bytes each
