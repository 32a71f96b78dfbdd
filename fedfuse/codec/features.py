"""Features beside encoded predictions: as they are, of the samples that a message is for."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedfuse.codec.protocol import Encoded
from fedfuse.errors import KnowledgeError
from fedfuse.shapes import Bool, Float

FEATURES = "features"
"""Their name among the arrays of a message."""


def with_features(encoded: Encoded, features: Float[Tensor, "k P D"]) -> Encoded:
    """Return the message with the features of its samples, 4 bytes a number."""
    wanted = _samples(encoded)
    flat, counts = features[wanted].flatten(), wanted.sum(dim=1) * features.shape[2]
    return replace(
        encoded,
        arrays={**encoded.arrays, FEATURES: flat},
        lengths={**encoded.lengths, FEATURES: counts},
    )


def features_of(encoded: Encoded, width: int) -> tuple[Float[Tensor, "k P D"] | None, Encoded]:
    """Return the features of a message, zero where it has none, and the message without them.

    Args:
        encoded: The message.
        width: D; 0 for a message without.

    Raises:
        KnowledgeError: If they are not as many, or no float32.
    """
    if width == 0:
        return None, encoded
    arrays, lengths = dict(encoded.arrays), dict(encoded.lengths)
    flat, counts, wanted = arrays.pop(FEATURES), lengths.pop(FEATURES), _samples(encoded)
    if flat.dtype != torch.float32 or not torch.equal(counts, wanted.sum(dim=1) * width):
        raise KnowledgeError(
            "The features of a message are not those of its samples",
            got=f"{counts.tolist()[:10]} numbers per client, {flat.dtype}",
            allowed=f"{width} of float32 for each sample",
        )
    features = torch.zeros(*wanted.shape, width)
    features[wanted] = flat.view(-1, width)
    return features, replace(encoded, arrays=arrays, lengths=lengths)


def _samples(encoded: Encoded) -> Bool[Tensor, "k P"]:
    """Return for which samples a message is."""
    if encoded.mask is not None:
        return encoded.mask
    return torch.ones(encoded.shape[:2], dtype=torch.bool)
