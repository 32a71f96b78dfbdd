"""How far clients move from exchange to exchange: by hand, in a run, and in one that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.run import main
from fedfuse.types import KnowledgeBank
from server.fusion.persuasion import LastUploads, agreed, total_variation
from tests import tiny
from tests.experiments.runs.test_resume import TINY, interrupted, same

ASKED = "server.persuasion=true"


def bank(probs: list[list[list[float]]], ids: list[int], mask: Any = None) -> KnowledgeBank:
    logits = torch.tensor(probs).log()
    mask = None if mask is None else torch.tensor(mask)
    counts = torch.ones(len(ids), dtype=torch.int64)
    return KnowledgeBank(torch.tensor(ids), logits, counts, None, mask)


def test_M4_total_variation_by_hand() -> None:
    before, after = torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2])
    assert float(total_variation(before, after)) == pytest.approx(0.3, abs=1e-5)
    assert float(total_variation(torch.eye(2)[0], torch.eye(2)[1])) == 1


def test_M4_agreement_is_more_than_half_of_who_answered() -> None:
    probs = torch.eye(3)[torch.tensor([[0, 0, 0], [0, 1, 1], [1, 2, 1]])]
    known = torch.tensor([[True] * 3, [True] * 3, [True, True, False]])
    assert agreed(probs, known).tolist() == [True, False, False]  # 2 of 3, 1 of 3, 1 of 2


def test_M4_split_by_agreement_over_who_was_there_both_times() -> None:
    uploads = LastUploads()
    first = [[[0.5, 0.5], [0.6, 0.4]], [[0.6, 0.4], [0.1, 0.9]], [[0.9, 0.1], [0.9, 0.1]]]
    assert uploads.moved(bank(first, [0, 1, 3])) == {}
    # Clients 1 and 3 are there again; of sample 1 two thirds said class 0, of sample 0 all.
    second = [[[0.5, 0.5], [0.5, 0.5]], [[0.7, 0.3], [0.3, 0.7]], [[0.9, 0.1], [0.4, 0.6]]]
    mask = [[True, True], [True, True], [True, False]]
    resumed = LastUploads()
    resumed.restore(uploads.state())
    found = uploads.moved(bank(second, [0, 1, 3], mask))
    assert found["persuasion"] == pytest.approx((0 + 0.1 + 0.1 + 0.2 + 0) / 5, abs=1e-6)
    assert resumed.moved(bank(second[1:], [1, 3], mask[1:])) == pytest.approx(
        {"persuasion": 0.1, "persuasion_agreed": 0.1}, abs=1e-6
    )
    # With client 3's answer to sample 1 gone, two of the two that answered differ there.
    assert "persuasion_disputed" not in found
    later = uploads.moved(bank(second, [0, 1, 3]))
    assert later == {"persuasion": 0, "persuasion_agreed": 0, "persuasion_disputed": 0}


def rows(run: Any) -> dict[str, list[float]]:
    found = run.metrics
    found = found[found.metric.str.startswith("persuasion")]
    return {name: part.value.tolist() for name, part in found.groupby("metric")}


WORDS = ("method=mean", "baseline=none", "num_rounds=4", "partitioner=dirichlet")


def test_M4_nobody_moves_without_steps_and_somebody_with(simulate: Callable[..., Any]) -> None:
    moving = simulate(*WORDS, ASKED)
    found = rows(moving)
    assert len(found["persuasion"]) == 2  # rounds 2, 3 and 4 exchange
    assert all(0 < value <= 1 for value in found["persuasion"])
    still = simulate(*WORDS, ASKED, "optimizer=sgd", "optimizer.lr=0")
    assert rows(still)["persuasion"] == [0, 0]
    unasked = simulate(*WORDS)
    assert rows(unasked) == {}
    kept = moving.metrics[~moving.metrics.metric.str.startswith("persuasion")]
    assert kept.value.tolist() == unasked.metrics.value.tolist()  # and it changes nothing


def test_M4_a_resumed_run_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    interrupted(broken, monkeypatch, ASKED)
    assert main([f"resume={broken}"]) == 0
    assert main([*TINY, ASKED, f"hydra.run.dir={whole}"]) == 0
    assert same(whole, broken)


@pytest.mark.parametrize("words", ["select=random", "method=fedavg", "method=scarlet"])
def test_M4_what_cannot_be_compared_is_refused(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*tiny.TINY, ASKED, words, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "same samples in every round" in " ".join(capsys.readouterr().err.split())
