"""Probes in a report: both arms, the gain by distance, and what was kept of each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.report import command
from experiments.report.probed import LOST, _values, probed_table, transfer_table
from experiments.results import load, run_groups
from experiments.run import main
from fedfuse.compare import area, backward_loss, compare
from tests import tiny

WORDS = [*tiny.TINY, "num_clients=3"]
ASKED = "evaluation.probes=[by_class,by_distance]"


def test_M5_M6_tables_hold_what_the_runs_measured(tmp_path: Path) -> None:
    words = [*WORDS, ASKED, "evaluation.probe_every=1", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main(words) == 0
    groups = run_groups(load(tmp_path / "run").runs)
    (run,) = next(iter(groups[0].methods.values()))
    assert run.baseline is not None
    probes, transfer = probed_table(groups), transfer_table(groups)
    assert probes is not None
    assert transfer is not None
    told = {row[2]: row[3:] for row in probes.numbers.rows}
    assert not [name for name in told if "class" in name]
    arms = run.baseline, run.arm
    for quarter in (1, 2, 3, 4):
        name = f"accuracy_distance_{quarter}"
        local, ours = (float(np.mean(arm.last(name, "probed"))) for arm in arms)  # type: ignore[arg-type]
        assert told[name][:3] == pytest.approx((local, ours, ours - local))
        assert told[f"distance_{quarter}"][2] == 0  # both arms are asked about the same samples
    kept = {row[2]: row[3:6] for row in transfer.numbers.rows}
    own = [float(np.mean(area(arm.at("accuracy_own")))) for arm in arms]
    assert kept["area, own distribution"] == pytest.approx((*own, own[1] - own[0]))
    lost = []
    for arm in arms:
        classes = [arm.at(f"accuracy_class_{c}", "probed") for c in range(10)]
        lost.append(float(np.mean([backward_loss(one) for one in classes if one is not None])))
    assert kept["backward loss"] == pytest.approx((*lost, lost[1] - lost[0]))
    assert command.main([str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "What models answered to the probes" in page
    assert "What was kept from round to round" in page


def test_M6_without_probes_there_is_no_table(tmp_path: Path) -> None:
    assert main([*WORDS, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    groups = run_groups(load(tmp_path / "run").runs)
    assert probed_table(groups) is None
    assert transfer_table(groups) is None


def test_M5_M6_shares_are_told_in_percent_others_as_they_are_and_less_loss_is_better() -> None:
    found = compare(
        np.array([[0.21, 0.23], [0.22, 0.24]]), np.array([[0.1, 0.1]] * 2), seeds=(0, 1)
    )
    assert found.significant
    told = {
        name: list(_values(name, found, share))
        for name, share in (("accuracy_blur", True), (LOST, True), ("loss", False))
    }
    assert [cell.text for cell in told["accuracy_blur"][:3]] == ["10.0", "22.5", "+12.5"]
    assert [cell.text for cell in told["loss"][:3]] == ["0.1", "0.225", "+0.1"]
    assert told["loss"][3].text.startswith("[+0.1")
    assert [told[name][2].tone for name in told] == ["gain", "loss", ""]
