"""Streaming fusion: equal to the dense one, whatever the blocks, the precision and the place."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse import fusion
from fedfuse.distill import KL, as_targets
from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.fusion import KnFu, MeanLogits, MeanProbabilities, Pipeline, TopK
from fedfuse.fusion.clusters import SampleClusters
from fedfuse.fusion.divergences import DIVERGENCES
from fedfuse.fusion.gather import gather_is_cheaper, weighted_sum
from fedfuse.fusion.per_sample import ConfidenceWeighted, UploadedConfidence
from fedfuse.fusion.robust import (
    CoordinateMedian,
    GeometricMedian,
    Krum,
    SpectralFilter,
    TrimmedMean,
)
from fedfuse.fusion.softmax import softmax
from fedfuse.fusion.streaming import fuse_streaming
from fedfuse.fusion.weights import effective_neighbours, self_weight, square
from fedfuse.protocols import Rule
from fedfuse.types import Fusion, KnowledgeBank, Space

RULES = [
    MeanProbabilities(),
    MeanProbabilities(3.0),
    MeanLogits(),
    fusion.GeometricMean(2.0),
]


def make_bank(
    num_clients: int, num_samples: int = 6, num_classes: int = 5, seed: int = 0
) -> KnowledgeBank:
    """Return clients that lean toward different classes."""
    generator = torch.Generator().manual_seed(seed)
    leaning = 2 * torch.randn(num_clients, 1, num_classes, generator=generator)
    return KnowledgeBank(
        client_ids=torch.arange(num_clients),
        logits=leaning + torch.randn(num_clients, num_samples, num_classes, generator=generator),
        num_examples=torch.randint(0, 50, (num_clients,), generator=generator),
    )


def hide(bank: KnowledgeBank, share: float) -> KnowledgeBank:
    """Return the bank with a mask, and NaN for an answer behind it."""
    shape = bank.logits.shape[:2]
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) >= share
    mask[:, 0] = False  # a sample that nobody answered
    logits = torch.where(mask.unsqueeze(-1), bank.logits, torch.nan)
    return replace(bank, logits=logits, mask=mask)


def sources(num_clients: int, k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return distinct ascending sources and their weights."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.rand(num_clients, num_clients, generator=generator).argsort(dim=1)[:, :k]
    weights = torch.rand(num_clients, k, generator=generator) + 0.1
    return index.sort(dim=1).values, weights / weights.sum(dim=1, keepdim=True)


def run_dense(pipeline: Pipeline, bank: KnowledgeBank) -> Fusion:
    """Return the fusion over all pairs: a lambda hides that the neighbours are top-k."""
    return replace(pipeline, neighbours=lambda scores: pipeline.neighbours(scores))(bank)


def expect_equal(sparse: Fusion, dense: Fusion) -> None:
    weights = sparse.weights.to_dense()
    torch.testing.assert_close(weights, dense.weights, rtol=1e-4, atol=1e-6)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(sparse.teachers.targets, dense.teachers.targets, **close)
    assert sparse.teachers.space is dense.teachers.space
    if dense.teachers.sample_weight is None:
        assert sparse.teachers.sample_weight is None
    else:
        assert torch.equal(sparse.teachers.sample_weight, dense.teachers.sample_weight)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_two_thousand_clients_fused_in_blocks_equal_them_at_once(divergence: str) -> None:
    bank = make_bank(2_000)
    pipeline = Pipeline(KnFu(divergence=divergence), TopK(10), MeanProbabilities(), dense_bytes=0)
    sparse, dense = pipeline(bank), run_dense(pipeline, bank)
    assert sparse.weights.is_sparse
    assert not dense.weights.is_sparse
    assert torch.equal(sparse.weights.to_dense() > 0, dense.weights > 0)
    expect_equal(sparse, dense)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("sharpen", [None, fusion.Power(3)], ids=repr)
@pytest.mark.parametrize("hidden", [0.0, 0.4])
def test_every_rule_streams_to_what_it_is_at_once(
    rule: object, sharpen: fusion.Power | None, hidden: float
) -> None:
    bank = make_bank(60)
    bank = hide(bank, hidden) if hidden else bank
    for scorer in (KnFu(), KnFu(beta=0), fusion.Uniform(), fusion.DataSize()):
        for include_self in (True, False):
            pipeline = Pipeline(scorer, TopK(3, include_self), rule, sharpen, dense_bytes=0)
            if sharpen is not None and isinstance(rule, MeanLogits):
                assert pipeline(bank).teachers.space is Space.PROBABILITIES
            expect_equal(pipeline(bank), run_dense(pipeline, bank))


def test_estimators_that_read_labels_or_shares_stream_too() -> None:
    bank = make_bank(80)
    labels = torch.arange(6) % 5
    shares = make_bank(80, seed=4).logits[:, 0].softmax(dim=1)
    bank = replace(bank, class_distribution=shares)
    for epd in ("prior_corrected", "class_conditional", "label_histogram", "oracle"):
        pipeline = Pipeline(KnFu(epd), TopK(3), MeanProbabilities(), dense_bytes=0)
        dense = replace(pipeline, neighbours=lambda scores: TopK(3)(scores))
        expect_equal(pipeline(bank, labels), dense(bank, labels))


@settings(max_examples=25, deadline=None)
@given(
    num_clients=st.integers(1, 60),
    k=st.integers(1, 6),
    samples=st.integers(1, 8),
    receivers=st.integers(1, 70),
    masked=st.booleans(),
)
def test_no_target_depends_on_the_blocks(
    num_clients: int, k: int, samples: int, receivers: int, masked: bool
) -> None:
    bank = make_bank(num_clients)
    bank = hide(bank, 0.3) if masked else bank
    index, weights = sources(num_clients, min(k, num_clients))
    rule = MeanProbabilities()
    targets, counts = fuse_streaming(
        bank, index, weights, rule, samples=samples, receivers=receivers
    )
    again, counts_again = fuse_streaming(bank, index, weights, rule, samples=6, receivers=60)
    torch.testing.assert_close(targets, again, rtol=0, atol=1e-6)
    at_once = rule(bank, square(index, weights, sparse=False))
    torch.testing.assert_close(targets, at_once, rtol=0, atol=1e-6)
    if masked:
        assert torch.equal(counts, counts_again)


@pytest.mark.parametrize("num_sources", [40, 400])
def test_a_gather_and_a_product_are_the_slow_sum(num_sources: int) -> None:
    index, weights = sources(num_sources, 5)
    assert gather_is_cheaper(num_sources, 5) is (num_sources == 400)
    values = torch.randn(num_sources, 7, generator=torch.Generator().manual_seed(1))
    loop = [
        sum(w * values[j].double() for j, w in zip(js, ws, strict=True))
        for js, ws in zip(index.tolist(), weights.tolist(), strict=True)
    ]
    fused = weighted_sum(values, index, weights)
    torch.testing.assert_close(fused, torch.stack(loop).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_stored_and_not_added_up(dtype: torch.dtype) -> None:
    """1,000 terms of 1/1000 would lose a tenth in float16 sums."""
    bank = make_bank(1_000, num_samples=2)
    half = replace(bank, logits=bank.logits.to(dtype))
    same = replace(bank, logits=half.logits.float())
    index = torch.arange(1_000).repeat(1_000, 1)
    weights = torch.full((1_000, 1_000), 1e-3)
    for rule in RULES:
        wide, _ = fuse_streaming(half, index, weights, rule)
        full, _ = fuse_streaming(same, index, weights, rule)
        assert wide.dtype == torch.float32
        assert torch.equal(wide, full)


RULES_OF_ALL_KINDS = (
    fusion.MeanProbabilities(2.0),
    fusion.MeanLogits(),
    fusion.GeometricMean(2.0),
    ConfidenceWeighted(measure="margin", temperature=2.0),
    UploadedConfidence(form="ratio"),
    CoordinateMedian(),
    TrimmedMean(),
    GeometricMedian(),
    Krum(),
    SpectralFilter(),
    SampleClusters(),
)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES_OF_ALL_KINDS, ids=lambda rule: type(rule).__name__)
def test_targets_are_distributions_whatever_the_precision_of_the_bank(
    rule: Rule, dtype: torch.dtype
) -> None:
    """In bfloat16 a row of a target misses a sum of 1 by up to 0.4%, and KL falls below 0."""
    bank = make_bank(50)
    draw = torch.Generator().manual_seed(1)
    bank = replace(
        bank,
        logits=(4 * bank.logits).to(dtype),
        confidence=torch.rand(50, 6, generator=draw) + 0.1,
        mask=torch.rand(50, 6, generator=draw) < 0.8,
    )
    for neighbours in (TopK(2), fusion.All()):  # streamed, where the rule can be, and dense
        for sharpen in (None, fusion.ERA(0.1), fusion.Power(3.0)):
            pipeline = Pipeline(KnFu(), neighbours, rule, sharpen, temperature=2.0)
            teachers = pipeline(bank).teachers
            assert teachers.targets.dtype == torch.promote_types(dtype, torch.float32)
            loss = KL(2.0)
            targets = as_targets(teachers, loss).flatten(0, 1)
            sums = targets.sum(-1)
            torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=2e-6)
            agreeing = 2 * targets.clamp_min(1e-38).log()
            for reached in (agreeing, agreeing + 1e-3 * torch.randn(agreeing.shape)):
                assert float(loss(reached, targets).min()) >= 0
                assert float(replace(loss, direction="reverse")(reached, targets).min()) >= 0


@pytest.mark.parametrize("samples_first", [False, True])
def test_a_bank_in_a_mapped_file_is_fused_like_one_in_memory(
    tmp_path: Path, samples_first: bool
) -> None:
    bank = make_bank(120, num_samples=9)
    order = (1, 0, 2) if samples_first else (0, 1, 2)
    stored = bank.logits.half().permute(order).contiguous().numpy()
    stored.tofile(tmp_path / "bank.f16")
    mapped = np.memmap(tmp_path / "bank.f16", dtype=np.float16, mode="r+", shape=stored.shape)
    logits = torch.from_numpy(mapped).permute(order)
    pipeline = Pipeline(KnFu(), TopK(4), MeanProbabilities(), dense_bytes=0)
    in_memory = pipeline(replace(bank, logits=bank.logits.half()))
    from_file = pipeline(replace(bank, logits=logits))
    targets = from_file.teachers.targets, in_memory.teachers.targets
    torch.testing.assert_close(*targets, rtol=0, atol=1e-3 if samples_first else 0)
    weights = from_file.weights.to_dense(), in_memory.weights.to_dense()
    torch.testing.assert_close(*weights, rtol=0, atol=1e-6 if samples_first else 0)


def test_the_record_is_dense_below_the_limit_and_says_the_same_above() -> None:
    bank = make_bank(100)
    pipeline = Pipeline(KnFu(beta=1), TopK(3), MeanProbabilities())
    small, large = pipeline(bank).weights, replace(pipeline, dense_bytes=39_999)(bank).weights
    assert not small.is_sparse
    assert large.is_sparse
    assert not replace(pipeline, dense_bytes=40_000)(bank).weights.is_sparse
    assert torch.equal(large.to_dense(), small)
    torch.testing.assert_close(self_weight(large), self_weight(small))
    torch.testing.assert_close(effective_neighbours(large), effective_neighbours(small))
    alone = replace(pipeline, neighbours=TopK(3, include_self=False), dense_bytes=0)(bank)
    assert not self_weight(alone.weights).any()


def test_without_beta_the_gather_is_the_plain_mean_to_the_bit() -> None:
    bank = make_bank(100)
    knfu = Pipeline(KnFu(beta=0), TopK(3), MeanProbabilities())
    mean = replace(knfu, scorer=fusion.Uniform())
    assert torch.equal(knfu(bank).teachers.targets, mean(bank).teachers.targets)
    assert torch.equal(knfu(bank).weights, mean(bank).weights)


def test_a_rule_of_ones_own_still_gets_all_pairs() -> None:
    bank = make_bank(100)

    def rule(bank: KnowledgeBank, weights: Tensor) -> Tensor:
        assert weights.shape == (100, 100)
        return MeanProbabilities()(bank, weights)

    own = Pipeline(KnFu(), TopK(3), rule, dense_bytes=0)(bank)
    shipped = Pipeline(KnFu(), TopK(3), MeanProbabilities())(bank)
    torch.testing.assert_close(own.teachers.targets, shipped.teachers.targets)


def test_a_broken_block_is_blamed_on_its_part() -> None:
    bank = make_bank(100)
    bank.logits[7, 5] = torch.nan
    pipeline = Pipeline(fusion.Uniform(), TopK(3), MeanProbabilities())
    with pytest.raises(KnowledgeError, match="MeanProbabilities did not return targets"):
        pipeline(bank)
    with pytest.raises(KnowledgeError, match="clients at \\[7\\]"):
        replace(pipeline, scorer=KnFu())(bank)
    twice = replace(pipeline, sharpen=lambda probs: 2 * probs)
    with pytest.raises(KnowledgeError, match="did not return probabilities"):
        twice(make_bank(100))


@pytest.mark.parametrize("name", ["dense_bytes", "temperature"])
def test_bad_hyperparameters_are_named(name: str) -> None:
    assert name in inspect.signature(Pipeline).parameters
    with pytest.raises(ParameterError, match=f"'{name}' parameter of Pipeline"):
        Pipeline(KnFu(), TopK(3), MeanProbabilities(), **{name: -1.5})


@settings(max_examples=30, deadline=None)
@given(
    scale=st.sampled_from([0.1, 1.0, 10.0, 60.0, 1e4]),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    seed=st.integers(0, 99),
)
def test_the_fast_softmax_is_the_softmax(scale: float, temperature: float, seed: int) -> None:
    z = scale * torch.randn(20, 7, generator=torch.Generator().manual_seed(seed))
    exact = (z.double() / temperature).softmax(dim=-1)
    # A last bit of the logits, 6e-8 of them, twice: of the argument and of the constant.
    bound = 2e-6 + 4e-7 * min(scale * 4 / temperature, 100)
    torch.testing.assert_close(softmax(z, temperature).double(), exact, rtol=0, atol=bound)
