"""Which codec goes up and which comes down: the options of the ``codec`` group.

Every function here is one option and returns a :class:`Channel`; its parameters are the keys of
that option. ``down`` is ``same`` or ``none``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from fedfuse.codec.floats import Float16, Float32
from fedfuse.codec.protocol import Codec, RowCode
from fedfuse.codec.quantize import Quantize
from fedfuse.codec.row_codec import RowCodec
from fedfuse.codec.top_k import TopKCodes
from fedfuse.codec.uint8 import UInt8
from fedfuse.declarations import declared
from fedfuse.extract import Logits
from fedfuse.protocols import Extract
from fedfuse.validation import require_one_of

PLAIN = RowCodec(Float32())
"""What writes predictions of which only some travel, where no codec was chosen."""

FLOAT_BITS = 32


@dataclass(frozen=True, slots=True)
class Channel:
    """How predictions travel.

    Args:
        up: From the clients; None sends numbers as they are.
        down: To the clients.
        extract: What of their predictions clients share.
    """

    up: Codec | None = None
    down: Codec | None = None
    extract: Extract = Logits()  # noqa: RUF009 - frozen

    @property
    def needs_fixed_public_set(self) -> bool:
        """Whether every round must be about the same public samples."""
        parts = (self.up, self.down)
        return any(declared(part, "needs_fixed_public_set", False) for part in parts)


def channel_of(part: Any) -> Channel:
    """Return the channel of an option: one as it is, a codec both ways, None for plain numbers."""
    made: Channel | Codec | None = part() if isinstance(part, partial) else part
    if made is None or isinstance(made, Channel):
        return made or Channel()
    return Channel(made, made)


def float16(*, delta: bool = False, entropy_coded: bool = False, down: str = "same") -> Channel:
    """Return 2 bytes per number."""
    return _both(Float16(), delta, entropy_coded, down)


def uint8(*, delta: bool = False, entropy_coded: bool = False, down: str = "same") -> Channel:
    """Return 1 byte per number, and two floats per row of logits."""
    return _both(UInt8(), delta, entropy_coded, down)


def top_k(
    *,
    k: int = 3,
    rest: str = "spread",
    half: bool = False,
    temperature: float = 1.0,
    delta: bool = False,
    entropy_coded: bool = False,
    down: str = "same",
) -> Channel:
    """Return the k most probable classes of each sample (:class:`fedfuse.codec.TopKCodes`)."""
    return _both(TopKCodes(k, rest, half, temperature), delta, entropy_coded, down)


def delta(*, entropy_coded: bool = False, down: str = "same") -> Channel:
    """Return whole float32 rows, of those samples only whose row has changed."""
    return _both(Float32(), True, entropy_coded, down)


def cfd(
    *,
    bits: int = 1,
    bits_down: int | None = None,
    temperature: float = 1.0,
    delta: bool = True,
    entropy_coded: bool = True,
    down: str = "same",
) -> Channel:
    """Return CFD's compression: quantised, against the last round, entropy-coded.

    Args:
        bits: b of the quantiser on the way up.
        bits_down: On the way down; None for the same, 32 for floats (CFD's ``1-32``).
        temperature: Of the softmax, where logits are sent.
        delta: Whether only what has changed is sent.
        entropy_coded: Whether symbols are entropy-coded.
        down: ``same`` or ``none``.
    """
    up = RowCodec(Quantize(bits, temperature), delta, entropy_coded)
    back = up
    if bits_down == FLOAT_BITS:
        back = RowCodec(Float32(), delta)
    elif bits_down is not None:
        back = RowCodec(Quantize(bits_down, temperature), delta, entropy_coded)
    require_one_of("codec", "down", down, ["same", "none"])
    return Channel(up, back if down == "same" else None)


def _both(code: RowCode, delta: bool, entropy_coded: bool, down: str) -> Channel:
    require_one_of("codec", "down", down, ["same", "none"])
    codec = RowCodec(code, delta, entropy_coded)
    return Channel(codec, codec if down == "same" else None)
