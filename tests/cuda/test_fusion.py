"""Fusion on the GPU against the CPU, from banks on either."""

from __future__ import annotations

import pytest
import torch

from fedfuse import fusion
from fedfuse.familiarity.kulsif import kulsif_ratio
from fedfuse.fusion import ByClass, KnFu, MeanLogits, MeanProbabilities, Pipeline, TopK
from fedfuse.fusion.divergences import DIVERGENCES
from fedfuse.fusion.robust import (
    CoordinateMedian,
    GeometricMedian,
    Krum,
    SpectralFilter,
    TrimmedMean,
)
from fedfuse.types import KnowledgeBank

pytestmark = pytest.mark.cuda

CPU = torch.device("cpu")
RULES = [MeanProbabilities(), MeanProbabilities(3.0), MeanLogits(), fusion.GeometricMean(2.0)]
ROBUST = [CoordinateMedian(), GeometricMedian(), Krum(), SpectralFilter(), TrimmedMean()]
DENSE = [(fusion.All(), 2**28), (TopK(3), 2**28), (fusion.TopP(0.8), 2**28)]


def bank(clients=40, samples=12, classes=5, dtype=torch.float32):
    """Return clients that lean toward different classes, on the CPU."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(clients, samples, classes, generator=rng)
    logits += 2 * torch.randn(clients, 1, classes, generator=rng)
    ids = torch.arange(clients)
    return KnowledgeBank(ids, logits.to(dtype), torch.ones_like(ids))


def moved(given, device):
    return KnowledgeBank(
        given.client_ids.to(device), given.logits.to(device), given.num_examples.to(device)
    )


def whole(fused):
    weights = fused.weights
    return weights.to_dense() if weights.is_sparse else weights


def assert_same(ours, expected, atol=1e-5):
    torch.testing.assert_close(
        ours.teachers.targets.cpu(), expected.teachers.targets, atol=atol, rtol=1e-4
    )
    torch.testing.assert_close(whole(ours).cpu(), whole(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(("neighbours", "dense_bytes"), [*DENSE, (TopK(3), 0)])
@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("scorer", [KnFu(), ByClass(KnFu(), "consensus")], ids=str)
def test_every_rule_dense_and_streamed(scorer, rule, neighbours, dense_bytes, host, device):
    pipeline = Pipeline(scorer, neighbours, rule, dense_bytes=dense_bytes)
    given = bank()
    expected = pipeline(given)
    ours = pipeline(given if host else moved(given, device), device=device)
    assert_same(ours, expected)
    if expected.by_class is not None:
        torch.testing.assert_close(ours.by_class.shares, expected.by_class.shares)


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_every_divergence(divergence, device):
    pipeline = Pipeline(KnFu(divergence=divergence), TopK(5), MeanProbabilities())
    given = bank()
    assert_same(pipeline(moved(given, device), device=device), pipeline(given))


@pytest.mark.parametrize("rule", ROBUST, ids=lambda rule: type(rule).__name__)
def test_robust_rules(rule, device):
    pipeline = Pipeline(fusion.Uniform(), fusion.All(), rule)
    given = bank(clients=9)
    assert_same(pipeline(moved(given, device), device=device), pipeline(given), atol=1e-4)


def test_a_half_precision_bank_in_host_memory_of_many_blocks(device, monkeypatch):
    """So many blocks that both pinned buffers are used again and again."""
    monkeypatch.setattr("fedfuse.fusion.streaming.samples_per_block", lambda _: 3)
    given = bank(clients=500, samples=50, dtype=torch.float16)
    pipeline = Pipeline(KnFu(), TopK(10), MeanProbabilities(), dense_bytes=0)
    assert_same(pipeline(given, device=device), pipeline(given), atol=1e-4)


def test_kulsif(device):
    rng = torch.Generator().manual_seed(0)
    known, auxiliary, query = (torch.randn(n, 6, generator=rng) for n in (80, 60, 30))
    expected = kulsif_ratio(known, auxiliary, query, 1.5, 0.1)
    ours = kulsif_ratio(*(part.to(device) for part in (known, auxiliary, query)), 1.5, 0.1)
    torch.testing.assert_close(ours.cpu(), expected, atol=1e-8, rtol=1e-8)
