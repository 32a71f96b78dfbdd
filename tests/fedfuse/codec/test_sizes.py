"""What codecs send, against the sizes that their papers give: m samples, C classes, b bytes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fedfuse.codec import (
    Float16,
    Float32,
    Quantize,
    RowCode,
    RowCodec,
    TopKCodes,
    UInt8,
)
from fedfuse.codec.range_coder import encode
from fedfuse.types import Space


def entropy_coded_bytes(symbols: npt.NDArray[np.integer], alphabet: int) -> int:
    """Return the size of one sequence of symbols [N], by really encoding it."""
    _, sizes = encode(symbols[None], np.array([len(symbols)]), alphabet)
    return int(sizes[0])


@pytest.mark.parametrize("num_classes", [2, 3, 10, 256, 257, 1000])
@pytest.mark.parametrize("num_samples", [1, 7, 64])
def test_codecs_send_what_their_formulas_say(num_samples: int, num_classes: int) -> None:
    probs = torch.rand(1, num_samples, num_classes) + 0.1
    probs = probs / probs.sum(dim=-1, keepdim=True)
    m, c = num_samples, num_classes
    class_bytes = max(1, math.ceil(math.log2(c) / 8))
    expected: list[tuple[RowCode, Space, int]] = [
        (Float32(), Space.LOGITS, m * c * 4),
        (Float16(), Space.LOGITS, m * c * 2),
        (UInt8(), Space.LOGITS, m * (c + 8)),  # two floats a row
        (UInt8(), Space.PROBABILITIES, m * c),
        (TopKCodes(3), Space.PROBABILITIES, m * min(3, c) * (4 + class_bytes)),
        (TopKCodes(2, half=True), Space.PROBABILITIES, m * 2 * (2 + class_bytes)),
        (Quantize(1), Space.PROBABILITIES, math.ceil(m * math.ceil(math.log2(c)) / 8)),
        (Quantize(3), Space.PROBABILITIES, math.ceil(m * 3 * c / 8)),
    ]
    for code, space, num_bytes in expected:
        assert RowCodec(code).encode(probs, space, {})[0].num_bytes == num_bytes


def test_equally_likely_labels_cost_their_entropy() -> None:
    labels = torch.randint(10, (1000,), generator=torch.Generator().manual_seed(0)).numpy()
    ideal = math.ceil(1000 * math.log2(10) / 8)
    assert ideal <= entropy_coded_bytes(labels, 10) < ideal + 10
