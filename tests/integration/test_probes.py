"""What models are asked at evaluation, in whole runs: who is asked, when, and what it leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from experiments.run import main
from fedfuse.probes import Asked
from tests import tiny
from tests.experiments.runs.test_resume import TINY, interrupted, same

ALL = "evaluation.probes=[blur,fgsm,pgd,consistency,by_class,by_distance]"


def mine(
    model: Asked, inputs: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
) -> dict[str, float]:
    """How often the model names class 0, and how many public samples there are."""
    named = model.predict(inputs).argmax(dim=1)
    return {"zeros": float((named == 0).double().mean()), "public": float(len(model.public))}


def nonsense(*_: object) -> str:
    """No metrics."""
    return "robust"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the configuration find this file's functions."""
    (tmp_path / "probe_parts.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))


def probed(folder: Path, name: str = "metrics") -> pd.DataFrame:
    found = pq.read_table(folder / f"{name}.parquet").to_pandas()
    return found[found.phase == "probed"]


def test_W10_both_arms_are_asked_at_the_end_and_it_changes_nothing_else(
    simulate: Callable[..., Any],
) -> None:
    asked, unasked = simulate(ALL), simulate()
    ours, theirs = (probed(asked.folder, name) for name in ("metrics", "baseline"))
    assert set(ours["round"]) == {2}
    assert set(ours.metric) == set(theirs.metric)
    assert set(ours.client_id) == set(theirs.client_id) == {0, 1, 2}
    # They are asked about the same samples, so a client's distances are those of its twin.
    near = [found[found.metric == "distance_1"].value.tolist() for found in (ours, theirs)]
    assert near[0] == near[1]
    sure = [found[found.metric == "confidence_right"].value.tolist() for found in (ours, theirs)]
    assert sure[0] != sure[1]
    whole = pq.read_table(asked.folder / "metrics.parquet").to_pandas()
    plain = pq.read_table(unasked.folder / "metrics.parquet").to_pandas()
    assert whole[whole.phase != "probed"].value.tolist() == plain.value.tolist()
    clean = ours[ours.metric == "accuracy_clean"].value.tolist()
    last = (whole["round"] == 2) & (whole.phase == "fused") & (whole.metric == "accuracy_global")
    assert clean == whole[last].value.tolist()  # of 50 samples all are asked


def test_W10_the_run_says_what_changed_and_what_asking_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main([*tiny.TINY, "probe=fgsm", "num_clients=3", f"hydra.run.dir={folder}"]) == 0
    said = capsys.readouterr().out
    told = json.loads((folder / "summary.json").read_text())
    found, seconds = told["probed"], told["seconds"]["probes"]
    assert found["seconds"] == seconds > 0
    change = found["method"]["accuracy_fgsm"] - found["baseline"]["accuracy_fgsm"]
    assert found["change"]["accuracy_fgsm"] == pytest.approx(change)
    assert f"probes in round 2, {seconds:.1f} s: local -> method" in said
    assert f"fgsm: {100 * found['baseline']['accuracy_fgsm']:.1f}% -> " in said
    assert "probes 0." in " ".join(said.split())  # among the phases' times


def test_W10_a_resumed_run_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("evaluation.probes=[pgd,consistency]", "evaluation.probe_every=1")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    interrupted(broken, monkeypatch, *words)
    assert main([f"resume={broken}"]) == 0
    assert main([*TINY, *words, f"hydra.run.dir={whole}"]) == 0
    assert same(whole, broken)
    assert set(probed(whole)["round"]) == {1, 2, 3, 4}


def test_W10_both_trainers_get_the_same_answers(simulate: Callable[..., Any]) -> None:
    loop, batched = (simulate(ALL, f"trainer={trainer}") for trainer in ("loop", "batched"))
    one, other = (probed(run.folder).value.tolist() for run in (loop, batched))
    assert one == pytest.approx(other, abs=1e-5)


def test_W10_who_rests_is_asked_if_it_is_tested_and_rounds_come_every_so_often(
    simulate: Callable[..., Any],
) -> None:
    words = ("num_clients=4", "num_rounds=5", "participation=uniform", "participation.fraction=0.5")
    words += ("probe=blur", "evaluation.every=1", "evaluation.probe_every=2")
    everybody = probed(simulate(*words).folder)
    asked = {int(r): set(part.client_id) for r, part in everybody.groupby("round")}
    assert asked == {r: {0, 1, 2, 3} for r in (2, 4, 5)}
    some = probed(simulate(*words, "evaluation.resting=none").folder)
    assert all(len(set(part.client_id)) == 2 for _, part in some.groupby("round"))


def test_W10_the_prior_is_read_as_the_balanced_test_reads_it(simulate: Callable[..., Any]) -> None:
    run = simulate("method=knfu_adjusted", "probe=fgsm", "partitioner=dirichlet")
    found = run.metrics
    last = found[found["round"] == 2]
    clean = last[last.metric == "accuracy_clean"].value.tolist()
    whole = last[(last.metric == "accuracy_global") & (last.phase == "fused")].value.tolist()
    assert clean == whole


def test_W10_what_is_no_share_is_told_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluation.probes=[{_target_:probe_parts.mine},blur]", "num_clients=2"]
    assert main([*tiny.TINY, *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    said = capsys.readouterr().out
    assert "  public: 100 -> 100 (+0)" in said
    assert re.search(r"  blur: [\d.]+% -> [\d.]+% \([+-][\d.]+\)", said)


def test_W10_a_probe_of_ones_own_is_asked(simulate: Callable[..., Any]) -> None:
    run = simulate("evaluation.probes=[{_target_:probe_parts.mine},{fgsm:{epsilon:0.3}}]")
    found = probed(run.folder).groupby("metric").value.mean()
    assert found["public"] == 100
    assert 0 <= found["zeros"] <= 1
    weak = simulate("evaluation.probes=[{fgsm:{epsilon:0.001}}]")
    assert (
        probed(weak.folder).groupby("metric").value.mean()["accuracy_fgsm"] > found["accuracy_fgsm"]
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("probe=fgms", "Did you mean 'fgsm'?"),
        ("evaluation.probes=3", "evaluation.probes is not valid: got 3"),
        ("evaluation.probes=[{epsilon:1}]", "mappings with a _target_"),
        ("evaluation.probes=[{fgsm:{epsilonn:1}}]", "Did you mean 'epsilon'?"),
        ("evaluation.probes=[{fgsm:{epsilon:-1}}]", "'epsilon' parameter of FGSM"),
        ("evaluation.probes=[fgsm,fgsm]", "one name: got 'fgsm' twice"),
        ("probe=blur dataset.kind=features", "got Blur with features"),
        ("probe=fgsm guard=sequential", "deploys two that it mixes: got guard=sequential"),
        ("evaluation.probes=[{_target_:probe_parts.nonsense}]", "does not say what it found"),
        ("evaluation.probes=[{_target_:probe_parts.importable}]", "probe_parts.importable"),
        ("evaluation.probe_every=-1", "evaluation.probe_every is not valid"),
        ("evaluation.probe_samples=0", "evaluation.probe_samples is not valid"),
    ],
)
def test_W10_mistakes_are_told_before_training(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*tiny.TINY, *words.split(), f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert says in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "metrics.parquet").exists()


def test_W10_an_option_of_ones_own_is_written_down_whole(tmp_path: Path) -> None:
    own, folder = tmp_path / "conf" / "probe", tmp_path / "run"
    own.mkdir(parents=True)
    (own / "strong.yaml").write_text("_target_: fedfuse.probes.FGSM\nepsilon: 0.2\nname: strong\n")
    words = [*tiny.TINY, "baseline=none", "num_clients=2", f"--config-dir={own.parent}"]
    assert main([*words, "probe=[strong,fgsm]", f"hydra.run.dir={folder}"]) == 0
    names = {"accuracy_strong", "accuracy_fgsm", "accuracy_clean"}
    assert set(probed(folder).metric) == names
    assert "name: strong" in (folder / "config.yaml").read_text()
