"""The closing tables of runs that are compared with several ways of training alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.summary import comparison
from experiments.summary.table import render, summarise
from fedfuse.types import MetricRow
from server.reporters.protocol import RunInfo
from tests.experiments.three_arms import ARMS, CLIENTS, rows_of, write

NAMES = tuple(ARMS)


def shown(show: Callable[[Console], None], *, color: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=80, highlight=False, force_terminal=color, legacy_windows=False,
        color_system="standard" if color else None,
    )  # fmt: skip
    show(console)
    return stream.getvalue()


def summary(tests: int = 2000, guard: float | None = None, clients: int = CLIENTS):
    arms = {name: list(rows_of(name, accuracies)) for name, accuracies in ARMS.items()}
    if guard is not None:
        for row in arms[NAMES[-1]][:]:
            if row.metric in ("accuracy_own", "accuracy_global"):
                arms[NAMES[-1]].append(
                    MetricRow(row.round, row.client_id, "fused", f"{row.metric}_unguarded",
                              row.value + guard)
                )  # fmt: skip
    info = RunInfo(NAMES[-1], NAMES, clients, 2, "mnist5k", "dirichlet(alpha=0.1)", "lenet5")
    return summarise(
        arms[NAMES[-1]], arms["local"], info, others={NAMES[1]: arms[NAMES[1]]},
        test_sizes={name: np.full(clients, tests) for name in ("accuracy_own", "accuracy_global")},
        class_counts=np.arange(10)[None].repeat(clients, 0),
    )  # fmt: skip


def words(text: str, name: str) -> list[str]:
    """Return what stands behind an arm's name, in its first row."""
    line = next(line for line in text.splitlines() if line.startswith(f" {name} "))
    return line.removeprefix(f" {name}").split()


def test_every_arm_has_a_row_with_its_gains() -> None:
    text = shown(lambda console: render(summary(), console))
    assert "knfu_adjusted against local and local_adjusted: test accuracy in %" in text
    # On 2,000 tests 4 points are beyond the error of a test, and 1 is not.
    assert words(text, "local") == ["80.0", "50.0"]
    assert words(text, "local (post hoc)") == ["80.0", "58.0", "+8.0", "4/0"]
    assert words(text, "local_adjusted") == ["79.0", "-1.0", "0/0", "62.0", "+12.0", "4/0"]
    assert words(text, "knfu_adjusted") == [
        *("84.0", "+4.0", "4/0", "+5.0", "4/0"),
        *("75.0", "+25.0", "4/0", "+13.0", "4/0"),
    ]
    assert "unguarded" not in text


def test_it_fits_80_columns_and_says_what_local_adjusted_is() -> None:
    text = shown(lambda console: render(summary(guard=0.0), console))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    legend = next(line for line in text.splitlines() if line.startswith("local_adjusted: "))
    assert legend.startswith("local_adjusted: trains alone too, freed of its client's mix of")
    assert "worst client of each arm: own 77.0, 76.0, 81.0; balanced 47.0, 59.0, 72.0" in text
    assert "round 2; tests of 2000 and 2000 samples; best validation: round 2, 2, 2" in text


def test_a_guard_shows_what_would_be_without_it() -> None:
    text = shown(lambda console: render(summary(guard=-0.01), console))
    assert words(text, "  unguarded") == [
        *("83.0", "+3.0", "4/0", "+4.0", "4/0"),
        *("74.0", "+24.0", "4/0", "+12.0", "4/0"),
    ]


def test_clients_have_both_gains() -> None:
    text = shown(lambda console: render(summary(), console))
    rows = [line.split() for line in text.split("clients ")[-1].splitlines()]
    [row] = [row for row in rows if row[:1] == ["3"]]
    assert row[-9:] == ["45", "83.0", "87.0", "+4.0", "+5.0", "53.0", "78.0", "+25.0", "+13.0"]


def test_tests_too_small_decide_nothing_here_either() -> None:
    few = shown(lambda console: render(summary(tests=20), console), color=True)
    assert "\x1b[1;32m" not in few
    assert "4/0" not in few
    assert "\x1b[1;32m" in shown(lambda console: render(summary(), console), color=True)


def test_the_numbers_are_in_the_summary() -> None:
    found = json.loads(json.dumps(summary(guard=-0.01).as_dict()))
    assert [control["name"] for control in found["controls"]] == ["local", "local_adjusted"]
    local, adjusted = (control["against_last"]["tests"] for control in found["controls"])
    assert local["accuracy_own"] == found["last"]["tests"]["accuracy_own"]
    assert adjusted["accuracy_global"]["gain"] == pytest.approx(0.13)
    assert adjusted["accuracy_global"]["baseline_mean"] == pytest.approx(0.62)
    assert found["controls"][1]["last"]["tests"]["accuracy_global"]["gain"] == pytest.approx(0.12)
    without = found["controls"][1]["against_unguarded"]["tests"]["accuracy_own"]
    assert without["gain"] == pytest.approx(0.04)
    assert found["post_hoc"]["mean"] == pytest.approx(0.58)
    assert found["clients"][2]["over"]["local_adjusted"]["accuracy_own"] == pytest.approx(0.05)


def sweep(folder: Path, seeds: int = 3) -> Path:
    for seed in range(seeds):
        write(folder / f"s{seed}", seed=seed)
    return folder


def test_a_sweep_ends_with_a_table_of_gains_for_each_control(tmp_path: Path) -> None:
    text = shown(lambda console: comparison.table(sweep(tmp_path), console))
    plain, adjusted = text.split("gain over prior-corrected local training, points over 3 seeds")
    assert "gain over local training, points over 3 seeds" in plain
    rows = [line.split() for line in adjusted.splitlines() if line.startswith("knfu_adjusted")]
    assert [row[:3] for row in rows[:2]] == [
        ["knfu_adjusted", "own", "+5.0"],
        ["knfu_adjusted", "balanced", "+13.0"],
    ]
    names = [line.split()[0] for line in plain.splitlines() if line.startswith("local_adjusted ")]
    assert names == ["local_adjusted"] * 2  # in one line each
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "local_adjusted: trained alone too" in text


def test_a_sweep_answers_fuse_or_train_alone(tmp_path: Path) -> None:
    text = " ".join(shown(lambda console: comparison.table(sweep(tmp_path), console)).split())
    for label in ("Own distribution", "Balanced test set"):
        assert f"{label}: Fuse. knfu_adjusted beats local training by" in text
    assert "knfu_adjusted beats prior-corrected local training by 13.0 points on average" in text
    assert "local_adjusted beats" not in text  # part of the answers, not one of its own


def test_one_run_ends_with_the_same_answers(tmp_path: Path) -> None:
    write(tmp_path / "run")
    text = " ".join(shown(lambda console: comparison.verdicts(tmp_path, console)).split())
    assert "Balanced test set: Fuse, by the means alone: one seed has no interval." in text
    assert "is best" not in text  # of one method the answers say it
