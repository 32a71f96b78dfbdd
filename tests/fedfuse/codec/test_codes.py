"""Row codes by hand: what is written, how large it is, what is lost."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.codec import Float16, Float32, Quantize, RowCode, RowCodec, TopKCodes, UInt8
from fedfuse.codec.quantize import simplex_counts
from fedfuse.codec.top_k import fill
from fedfuse.codec.uint8 import affine, fixed, fixed_values
from fedfuse.errors import ParameterError
from fedfuse.types import Space

LOGITS, PROBS = Space.LOGITS, Space.PROBABILITIES


def _through(code: RowCode, values: Tensor, space: Space) -> Tensor:
    return code.to_values(code.to_symbols(values, space), space, values.shape[-1])


# A message of one client, 5 samples and 10 classes, in bytes:
SIZES = [
    (Float32(), LOGITS, 5 * 40),
    (Float16(), LOGITS, 5 * 20),
    (UInt8(), PROBS, 5 * 10),
    (UInt8(), LOGITS, 5 * (10 + 8)),  # and two floats per row
    (TopKCodes(3), PROBS, 5 * 3 * (4 + 1)),
    (TopKCodes(3, half=True), PROBS, 5 * 3 * (2 + 1)),
    (TopKCodes(50), PROBS, 5 * 10 * (4 + 1)),  # no more than there are
    (Quantize(1), PROBS, 3),  # 5 ids of 4 bits: 20 bits
    (Quantize(2), PROBS, 13),  # 5 * 10 counts of 2 bits: 100 bits
    (Quantize(8), PROBS, 50),
]


@pytest.mark.parametrize(("code", "space", "num_bytes"), SIZES, ids=repr)
def test_bytes_by_hand(code: RowCode, space: Space, num_bytes: int) -> None:
    values = torch.randn(1, 5, 10).softmax(dim=-1)
    message, _ = RowCodec(code).encode(values, space, {})
    assert message.num_bytes == num_bytes
    both, _ = RowCodec(code).encode(values.repeat(2, 1, 1), space, {})
    assert both.client_bytes.tolist() == [num_bytes, num_bytes]


def test_class_ids_of_many_classes_take_two_bytes() -> None:
    probs = torch.zeros(1, 1, 300)
    probs[..., 299], probs[..., 256] = 0.75, 0.25
    message, _ = RowCodec(TopKCodes(2)).encode(probs, PROBS, {})
    assert message.num_bytes == 2 * (4 + 2)
    torch.testing.assert_close(_through(TopKCodes(2), probs, PROBS), probs)
    one_bit, _ = RowCodec(Quantize(1)).encode(probs.repeat(1, 8, 1), PROBS, {})
    assert one_bit.num_bytes == 9  # 8 ids of 9 bits
    assert _through(Quantize(1), probs, PROBS).argmax() == 299


def test_affine_by_hand() -> None:
    # low 0, step 5.1/255 = 0.02: 1.01 is 50.5 steps, 50 or 51 by rounding; 5.1 is 255
    levels, low, step = affine(torch.tensor([[0.0, 1.0, 5.1], [-2.0, -2.0, -2.0]]))
    assert levels.tolist() == [[0, 50, 255], [0, 0, 0]]
    torch.testing.assert_close(low.flatten(), torch.tensor([0.0, -2.0]))
    torch.testing.assert_close(step.flatten(), torch.tensor([0.02, 0.0]))


def test_fixed_by_hand() -> None:
    # 255 * (0.5, 0.3, 0.2) = 127.5 (to even: 128), 76.5 (float32's 0.3 is a hair more: 77), 51
    levels = fixed(torch.tensor([0.5, 0.3, 0.2]))
    assert levels.tolist() == [128, 77, 51]
    torch.testing.assert_close(fixed_values(levels), torch.tensor([128.0, 77.0, 51.0]) / 256)
    none = fixed_values(fixed(torch.full((1000,), 1e-3)))
    torch.testing.assert_close(none, torch.full((1000,), 1e-3))


def test_simplex_counts_by_hand() -> None:
    # 3 * (0.6, 0.3, 0.1) = 1.8, 0.9, 0.3: floors 1, 0, 0; two missing, to 0.9 and 0.8
    # 7 * (1/3, 1/3, 1/3) = 2.33 each: floors 2, one missing, the tie goes to the first
    # 3 * (0.25, 0.25, 0.25, 0.25) = 0.75 each: the first three
    assert simplex_counts(torch.tensor([0.6, 0.3, 0.1]), 3).tolist() == [2, 1, 0]
    assert simplex_counts(torch.full((3,), 1 / 3), 7).tolist() == [3, 2, 2]
    assert simplex_counts(torch.full((4,), 0.25), 3).tolist() == [1, 1, 1, 0]
    assert simplex_counts(torch.tensor([0.0, 1.0]), 3).tolist() == [0, 3]
    assert simplex_counts(torch.tensor([0.4, 0.4, 0.2]), 1).tolist() == [1, 0, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=4).filter(lambda p: sum(p) > 1e-3),
    st.integers(1, 3),
)
def test_quantising_is_the_nearest_point_of_the_grid(row: list[float], bits: int) -> None:
    steps = 2**bits - 1
    p = torch.tensor(row, dtype=torch.float64)
    p = p / p.sum()
    grid = [q for q in product(range(steps + 1), repeat=len(row)) if sum(q) == steps]
    best = min(sum(abs(n / steps - float(x)) for n, x in zip(q, p, strict=True)) for q in grid)
    ours = float((simplex_counts(p, steps).double() / steps - p).abs().sum())
    assert ours == pytest.approx(best, abs=1e-9)


CODES = (
    Float32(),
    Float16(),
    UInt8(),
    TopKCodes(2),
    TopKCodes(2, rest="drop"),
    TopKCodes(3, half=True),
    Quantize(1),
    Quantize(3),
    Quantize(8),
)


def _logits(seed: int, scale: float, num_classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, 3, num_classes, generator=generator)


@pytest.mark.parametrize("code", CODES, ids=repr)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 10.0]), st.sampled_from([2, 5, 30]))
def test_errors_are_bounded_and_distributions_stay(
    code: RowCode, seed: int, scale: float, num_classes: int
) -> None:
    logits = _logits(seed, scale, num_classes)
    probs = logits.softmax(dim=-1)
    arrived = _through(code, probs, PROBS)
    torch.testing.assert_close(arrived.sum(dim=-1), torch.ones(2, 3))
    assert (arrived >= 0).all()
    worst = float((arrived - probs).abs().max())
    match code:
        case Float32():
            assert worst == 0
            assert torch.equal(_through(code, logits, LOGITS), logits)
        case Float16():
            assert worst <= 2**-10 + 2**-23
            error = (_through(code, logits, LOGITS) - logits).abs()
            assert (error <= logits.abs() * 2**-11 + 2**-25).all()
        case UInt8():
            assert worst <= (num_classes + 1) / 500
            spread = logits.amax(dim=-1, keepdim=True) - logits.amin(dim=-1, keepdim=True)
            error = (_through(code, logits, LOGITS) - logits).abs()
            assert (error <= spread / 509.9 + 1e-6).all()
        case TopKCodes():
            kept = probs.sort(dim=-1, descending=True).values[..., : code.k].sum(dim=-1)
            assert ((arrived - probs).abs().sum(dim=-1) <= 2 * (1 - kept) + 5e-3).all()
        case Quantize():
            # rounding each down or up moves it by less than a step
            assert worst < 1 / code.steps + 1e-6


@pytest.mark.parametrize("code", [code for code in CODES if code != UInt8()], ids=repr)
@pytest.mark.parametrize("space", [LOGITS, PROBS])
def test_reading_and_writing_again_changes_nothing(code: RowCode, space: Space) -> None:
    values = _logits(3, 2.0, 6)
    if space is PROBS:
        values = values.softmax(dim=-1)
    once = _through(code, values, space)
    torch.testing.assert_close(_through(code, once, space), once, rtol=2e-3, atol=1e-6)
    if isinstance(code, Quantize):
        symbols = code.to_symbols(values, space)
        assert torch.equal(code.to_symbols(once, space), symbols)


def test_affine_levels_are_idempotent() -> None:
    values = _logits(4, 2.0, 6)
    once = _through(UInt8(), values, LOGITS)
    torch.testing.assert_close(_through(UInt8(), once, LOGITS), once, rtol=0, atol=1e-5)


def test_half_precision_does_not_overflow() -> None:
    huge = torch.tensor([[[1e30, -1e30, 1.0]]])
    assert _through(Float16(), huge, LOGITS).tolist() == [[[65504.0, -65504.0, 1.0]]]
    assert _through(UInt8(), 1e38 * huge.sign(), LOGITS).isfinite().all()


def test_top_k_by_hand() -> None:
    probs = torch.tensor([[[0.1, 0.5, 0.3, 0.1]]])
    torch.testing.assert_close(
        _through(TopKCodes(2), probs, PROBS), torch.tensor([[[0.1, 0.5, 0.3, 0.1]]])
    )
    torch.testing.assert_close(
        _through(TopKCodes(2, rest="drop"), probs, PROBS), torch.tensor([[[0, 0.625, 0.375, 0]]])
    )
    torch.testing.assert_close(
        _through(TopKCodes(1), probs, PROBS), torch.tensor([[[1 / 6, 0.5, 1 / 6, 1 / 6]]])
    )
    # All kept and, by rounding, a little more than 1 in sum: still a distribution
    full = fill(torch.tensor([0.75, 0.2505]), torch.tensor([0, 1]), 2, "spread")
    torch.testing.assert_close(full, torch.tensor([0.75, 0.2505]) / 1.0005)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("make", [TopKCodes, Quantize])
def test_logits_carry_probabilities_at_the_temperature(
    make: type[TopKCodes | Quantize], temperature: float
) -> None:
    logits = _logits(5, 2.0, 6)
    code = make(3, temperature=temperature)
    arrived = (_through(code, logits, LOGITS) / temperature).softmax(dim=-1)
    direct = _through(code, (logits / temperature).softmax(dim=-1), PROBS)
    torch.testing.assert_close(arrived, direct, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [0, 9, 1.5, True, "1", None, math.nan])
def test_bad_bits(bad: object) -> None:
    with pytest.raises(ParameterError, match="'bits' parameter of Quantize"):
        Quantize(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "bad"),
    [("k", 0), ("k", True), ("rest", "sprad"), ("half", 1), ("temperature", 0)],
)
def test_bad_top_k(name: str, bad: object) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' parameter of TopK"):
        TopKCodes(**{name: bad})  # type: ignore[arg-type]
