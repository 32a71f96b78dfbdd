"""The byte formulas: the worked example, and agreement with what the codecs really send."""

from __future__ import annotations

import pytest
import torch

from fedfuse import traffic
from fedfuse.codec import (
    Float16,
    Float32,
    Quantize,
    RowCode,
    RowCodec,
    TopKCodes,
    UInt8,
    entropy_coded_bytes,
)
from fedfuse.types import Space


def test_the_worked_example() -> None:
    # 1,000 samples, 10 classes: 40 kB each way; a model of 1.66 million parameters: 6.65 MB, x 166
    predictions = traffic.dense_bytes(1000, 10)
    assert predictions == 40_000
    model = traffic.weight_bytes(1_663_370)
    assert model == 6_653_480
    assert model // predictions == 166
    # 5,000 samples, 100 classes: 2 MB, more than a model of 100,000 parameters
    assert traffic.dense_bytes(5000, 100) == 2_000_000 > traffic.weight_bytes(100_000)
    assert traffic.break_even_samples(100_000, 100) == 1000
    assert traffic.break_even_samples(1_663_370, 10) == 166_337
    assert traffic.dense_bytes(1000, 100) == traffic.weight_bytes(100_000)


def test_other_payloads_by_hand() -> None:
    assert traffic.class_logits_bytes(10) == 400 + 2
    assert traffic.class_logits_bytes(100) == 40_000 + 13
    assert traffic.prototype_bytes(10, 84) == 10 * 84 * 4 + 2
    assert traffic.mask_bytes(1001) == 126
    assert traffic.score_bytes(1000) == 4000
    assert traffic.epd_bytes(10) == 40
    assert traffic.index_bytes(1000) == 4000
    assert traffic.cache_bytes(1000, 50, 10) == 50 * 40 + 1000
    assert traffic.one_bit_entropy_bytes(1000, 2) == 125
    assert traffic.federation_bytes(3, 5, 4) == (12, 20)
    assert traffic.federation_bytes(3, 5, 4, broadcast=True) == (12, 5)
    assert traffic.break_even_for(4000, 0.5) == 8000


@pytest.mark.parametrize("num_classes", [2, 3, 10, 256, 257, 1000])
@pytest.mark.parametrize("num_samples", [1, 7, 64])
def test_formulas_are_what_codecs_send(num_samples: int, num_classes: int) -> None:
    probs = torch.rand(1, num_samples, num_classes) + 0.1
    probs = probs / probs.sum(dim=-1, keepdim=True)
    m, c = num_samples, num_classes
    expected: list[tuple[RowCode, Space, int]] = [
        (Float32(), Space.LOGITS, traffic.dense_bytes(m, c)),
        (Float16(), Space.LOGITS, traffic.dense_bytes(m, c, 2)),
        (UInt8(), Space.LOGITS, traffic.uint8_bytes(m, c, logits=True)),
        (UInt8(), Space.PROBABILITIES, traffic.uint8_bytes(m, c, logits=False)),
        (TopKCodes(3), Space.PROBABILITIES, traffic.top_k_bytes(m, c, 3)),
        (TopKCodes(2, half=True), Space.PROBABILITIES, traffic.top_k_bytes(m, c, 2, 2)),
        (Quantize(1), Space.PROBABILITIES, traffic.quantized_bytes(m, c, 1)),
        (Quantize(3), Space.PROBABILITIES, traffic.quantized_bytes(m, c, 3)),
    ]
    for code, space, num_bytes in expected:
        assert RowCodec(code).encode(probs, space, {})[0].num_bytes == num_bytes


def test_equally_likely_labels_cost_their_entropy() -> None:
    labels = torch.randint(10, (1000,), generator=torch.Generator().manual_seed(0)).numpy()
    ideal = traffic.one_bit_entropy_bytes(1000, 10)
    assert ideal <= entropy_coded_bytes(labels, 10) < ideal + 10
