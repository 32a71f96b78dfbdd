"""Random numbers that only one client can draw: noise that nobody else can subtract.

A run's streams follow from its seed, which the server and every other client know; and torch's CPU
generator keeps 32 bits of whatever it is seeded with, so that trying all seeds takes minutes. Here
the numbers are the output of SHAKE-256 (FIPS 202) for a key that is a hash of the client's secret
(BLAKE2b, RFC 7693) and of what the numbers are for: the same occasion always draws the same noise,
and nobody without the secret draws any of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SECRET_BYTES = 32
_WORDS, _HEAD = 624, 24  # of a Mersenne Twister, and the bytes before them in torch's state


class SecretGenerator(torch.Generator):
    """A CPU generator whose numbers follow from a key.

    :meth:`uniform` is what noise is made of. Handed to torch's own functions, which know nothing
    of it, it is a Mersenne Twister that begins at a state of 19,968 bits from the same key: no seed
    can be tried out, but enough of its output tells the rest, so a promise must not rest on it.

    Args:
        key: Names the stream; as secret as what it is a hash of.
    """

    def __new__(cls, key: bytes) -> SecretGenerator:  # noqa: ARG004, D102
        return super().__new__(cls)

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._drawn = 0
        state = torch.Generator().manual_seed(0).get_state().numpy()
        words = np.frombuffer(self._bytes(b"words", 4 * _WORDS), dtype="<u4").astype("<u8")
        state[_HEAD : _HEAD + 8 * _WORDS] = words.view(np.uint8)
        self.set_state(torch.from_numpy(state))

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return the next float64 draws from [0, 1), multiples of 2**-53."""
        count = int(np.prod(shape, dtype=np.int64))
        stream = self._bytes(self._drawn.to_bytes(8, "little"), 8 * count)
        self._drawn += 1
        whole = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)
        return torch.from_numpy(whole * 2.0**-53).reshape(list(shape))

    def _bytes(self, name: bytes, count: int) -> bytes:
        return hashlib.shake_256(self._key + name).digest(count)


def new_secret() -> Tensor:
    """Return a fresh secret of the operating system's, uint8 [32]."""
    return torch.tensor(list(os.urandom(SECRET_BYTES)), dtype=torch.uint8)


def secret_generator(secret: Tensor, *name: str | int) -> SecretGenerator:
    """Return the generator of the stream ``name`` of a client's secret, uint8 [32]."""
    key = hashlib.blake2b(repr(name).encode(), key=bytes(secret.tolist()), digest_size=32)
    return SecretGenerator(key.digest())
