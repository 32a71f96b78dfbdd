"""One seed, many independent random streams, each with a name.

Every random decision draws from the stream of its own purpose, so that adding a client, a round
or another consumer of randomness never shifts the numbers that the others see, and the result
does not depend on which process asks, or in which order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from fedfuse.errors import require

Name = str | int


@dataclass(frozen=True, slots=True)
class Streams:
    """Random streams derived from one seed.

    >>> streams = Streams(seed=0)
    >>> a = streams.numpy("client", 3, "round", 1).integers(100)
    >>> b = streams.numpy("client", 3, "round", 1).integers(100)
    >>> bool(a == b)
    True
    """

    seed: int

    def __post_init__(self) -> None:
        require(
            isinstance(self.seed, int) and 0 <= self.seed < 2**63,
            "Streams",
            "seed",
            self.seed,
            "an integer from 0 to 2**63 - 1",
        )

    def entropy(self, *name: Name) -> int:
        """Return 63 bits of entropy for the stream ``name``.

        The name's parts keep their type and their borders: ``("a", 1)``, ``("a", "1")`` and
        ``("a1",)`` are different streams.
        """
        text = repr((self.seed, *name)).encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def numpy(self, *name: Name) -> np.random.Generator:
        """Return a fresh NumPy generator at the start of the stream ``name``."""
        return np.random.default_rng(self.entropy(*name))

    def torch(self, *name: Name) -> torch.Generator:
        """Return a fresh CPU generator of torch at the start of the stream ``name``."""
        return torch.Generator().manual_seed(self.entropy(*name))
