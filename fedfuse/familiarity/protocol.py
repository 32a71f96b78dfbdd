"""What an estimate of a client's own density is: what the client alone computes about samples."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

SPACES = ("inputs", "features")


class Scored(NamedTuple):
    """What a familiarity returns that scores some of the public samples only.

    Args:
        confidence: float32 [P]; what stands at a sample without a score means nothing.
        mask: bool [P], which samples have a score; the client answers for no others.
    """

    confidence: Tensor
    mask: Tensor


class Familiarity(Protocol):
    """Say how much each public sample looks like the client's private data.

    The call gets private samples [n, d] with labels int64 [n], public samples [P, d] in the same
    space (flattened inputs, or features of the client's model or of a shared one) and a generator.
    It returns float32 [P], a confidence (larger is more familiar), or bool [P], a mask of the
    samples that the client answers for, or both as :class:`Scored`. They are fields of
    :class:`fedfuse.types.KnowledgeBank`. Clients may have different architectures, so confidences
    must not depend on the scale of the space. Which space it wants it says with an attribute
    ``of``: ``inputs`` (the default; asked once in a run) or ``features`` (in every round).
    """

    def __call__(
        self, private: Tensor, labels: Tensor, public: Tensor, generator: torch.Generator
    ) -> Tensor | Scored:
        """Return a confidence or a mask, or both."""
        ...
