"""Every shipped codec keeps the protocol's promises, and the check finds those that do not."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from fedfuse.codec import (
    Codec,
    Encoded,
    Float16,
    Float32,
    Quantize,
    RowCodec,
    State,
    TopKCodes,
    UInt8,
)
from fedfuse.errors import KnowledgeError
from fedfuse.testing.codec import check_codec
from fedfuse.testing.failed import CheckFailed
from fedfuse.types import Space

CODES = (
    Float32(),
    Float16(),
    UInt8(),
    TopKCodes(1),
    TopKCodes(3, rest="drop", temperature=2.0),
    TopKCodes(200, half=True),
    Quantize(1),
    Quantize(2, temperature=3.0),
    Quantize(8),
)
CODECS = [RowCodec(code, delta) for code, delta in product(CODES, (False, True))] + [
    RowCodec(Quantize(1), delta=False, entropy_coded=True),
    RowCodec(Quantize(1), delta=True, entropy_coded=True),
    RowCodec(Quantize(2), delta=True, entropy_coded=True),
]


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_shipped_codecs_keep_their_promises(codec: Codec) -> None:
    check_codec(codec)


class _Wrapped:
    """Float32 with one thing spoilt."""

    def __init__(self, **spoil: object) -> None:
        self.spoil = spoil
        self.inner = RowCodec(delta=bool(spoil.get("delta")))
        self.calls = 0

    def encode(
        self, values: Tensor, space: Space, state: State, mask: Tensor | None = None
    ) -> tuple[Encoded, State]:
        self.calls += 1
        if self.spoil.get("greedy"):
            values.mul_(1.5)
        if self.spoil.get("mixes"):
            values = values.mean(dim=0, keepdim=True).expand(values.shape)
        message, after = self.inner.encode(
            values, space, state, None if self.spoil.get("forgets_mask") else mask
        )
        if self.spoil.get("forgets_bytes"):
            short = {name: count - 1 for name, count in message.lengths.items()}
            message = replace(message, lengths=short)
        if self.spoil.get("restless"):
            message.arrays["symbols"] = message.arrays["symbols"] + self.calls
        if self.spoil.get("drifts"):
            after = {"count": torch.full((len(values),), self.calls)}
        return message, after

    def decode(self, message: Encoded, state: State) -> tuple[Tensor, State]:
        values, after = self.inner.decode(message, state)
        if self.spoil.get("scales"):
            values = 2 * values
        if self.spoil.get("breaks"):
            values = values / 0
        if self.spoil.get("flat"):
            values = values.flatten(1)
        return values, after


BROKEN = {
    "greedy": "changes its inputs",
    "mixes": "mixes the clients",
    "forgets_bytes": "bytes where",
    "forgets_mask": "not all finite",
    "restless": "another message when called again",
    "drifts": "in other states",
    "scales": "left the simplex",
    "breaks": "finite",
    "flat": "of shape",
}


@pytest.mark.parametrize("spoil", BROKEN)
def test_check_codec_finds(spoil: str) -> None:
    with pytest.raises((CheckFailed, KnowledgeError), match=BROKEN[spoil]):
        check_codec(_Wrapped(**{spoil: True}))


def test_the_unspoilt_one_passes() -> None:
    check_codec(_Wrapped())
