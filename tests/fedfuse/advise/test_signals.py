"""What the shared predictions show, on predictions whose answers are known."""

from __future__ import annotations

import pytest
import torch

from fedfuse.advise.signals import prediction_signals
from fedfuse.fusion.estimators import mean_soft
from fedfuse.types import Fusion, KnowledgeBank, Space, Teachers
from server.records.prediction_rows import prediction_rows

CERTAIN = 60.0


def certain(classes: list[list[int]], num_classes: int = 4) -> torch.Tensor:
    """Return logits [K, P, C] that name these classes without a doubt."""
    return CERTAIN * torch.nn.functional.one_hot(torch.tensor(classes), num_classes).float()


def bank(logits: torch.Tensor, mask: torch.Tensor | None = None) -> KnowledgeBank:
    ids = torch.arange(len(logits))
    return KnowledgeBank(ids, logits, torch.full((len(logits),), 10), mask=mask)


def test_certain_clients_of_different_classes():
    logits = certain([[0, 0, 1, 1], [2, 2, 3, 3]])
    teachers = Teachers(torch.arange(2), certain([[0, 0, 1, 3], [2, 2, 3, 3]]), Space.LOGITS)
    found = prediction_signals(bank(logits), teachers)
    assert found["epd_classes"].tolist() == pytest.approx([2, 2])
    assert found["epd_distance"].tolist() == pytest.approx([0.5, 0.5])
    assert found["entropy"].tolist() == pytest.approx([0, 0])
    assert found["teacher_entropy"].tolist() == pytest.approx([0, 0])
    assert found["disagreement"].tolist() == [0.25, 0]


def test_clients_that_guess():
    teachers = Teachers(torch.arange(2), torch.full((2, 3, 4), 0.25), Space.PROBABILITIES)
    found = prediction_signals(bank(torch.zeros(2, 3, 4)), teachers)
    for name, value in {"epd_classes": 4, "epd_distance": 0, "entropy": 1}.items():
        assert found[name].tolist() == pytest.approx([value] * 2)
    assert found["teacher_entropy"].tolist() == pytest.approx([1, 1])


def test_only_answered_and_taught_samples_count():
    logits = certain([[0, 1, 2, 3], [0, 0, 0, 0], [1, 1, 1, 1]])
    mask = torch.tensor([[True, True, False, False], [True] * 4, [True] * 4])
    weight = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 1]])
    # Client 2 got no teacher, client 1's is about its last sample alone.
    teachers = Teachers(
        torch.tensor([0, 1]), certain([[0, 2, 0, 0], [3, 3, 3, 0]]), Space.LOGITS, weight
    )
    found = prediction_signals(bank(logits, mask), teachers)
    assert found["disagreement"].tolist()[:2] == [0.5, 0.0]
    assert found["epd_classes"][0].item() == pytest.approx(2)
    assert found["disagreement"][2].isnan()
    rows = list(prediction_rows(3, bank(logits, mask), fusion(teachers)))
    assert {row.client_id for row in rows if row.metric == "disagreement"} == {0, 1}
    assert {row.client_id for row in rows if row.metric == "entropy"} == {0, 1, 2}
    assert all(row.round == 3 and row.phase == "fuse" for row in rows)


def test_a_client_that_answered_nothing_is_no_part_of_the_mean():
    logits = certain([[0, 0], [0, 1], [3, 3]])
    mask = torch.tensor([[True, True], [True, True], [False, False]])
    teachers = Teachers(torch.arange(3), logits.softmax(2), Space.PROBABILITIES)
    found = prediction_signals(bank(logits, mask), teachers)
    # (1, 0) and (1/2, 1/2) are each a quarter from their mean (3/4, 1/4); the third is nowhere.
    assert found["epd_distance"][:2].tolist() == pytest.approx([0.25, 0.25], abs=1e-4)
    assert found["epd_distance"][2:].isnan().all()
    assert found["epd_classes"][2:].isnan().all()


def test_blocks_of_clients_change_nothing(monkeypatch):
    logits = torch.randn(7, 20, 5, generator=torch.Generator().manual_seed(0))
    teachers = Teachers(torch.arange(7), logits.roll(1, 0), Space.LOGITS)
    whole = prediction_signals(bank(logits), teachers)
    monkeypatch.setattr("fedfuse.fusion.blocks._CPU_BYTES", 800)
    parts = prediction_signals(bank(logits), teachers)
    for name, values in whole.items():
        torch.testing.assert_close(parts[name], values, msg=name)
    epd = mean_soft(logits).double()
    torch.testing.assert_close(
        whole["epd_distance"], (epd - epd.mean(0)).abs().sum(1) / 2, rtol=1e-6, atol=1e-8
    )


def test_nothing_is_said_of_an_exchange_without_predictions():
    assert not list(prediction_rows(1, None, None))
    teachers = Teachers(torch.arange(1), torch.zeros(1, 2, 3), Space.LOGITS)
    assert not list(prediction_rows(1, None, fusion(teachers)))


def fusion(teachers: Teachers) -> Fusion:
    return Fusion(teachers, None)
