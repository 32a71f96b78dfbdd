"""One score for a pair of clients where every class has its own: what neighbours are chosen by."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.fusion.blocks import spans
from fedfuse.protocols import ClassScores
from fedfuse.shapes import Float

BLOCK_BYTES = 2**26
"""What the weights [r, K, C] of some receivers may take, if they have to be made at all."""


def over_classes(
    scores: ClassScores | Float[Tensor, "K J C"],
    dtype: torch.dtype = torch.float32,
    block_bytes: int = BLOCK_BYTES,
) -> Float[Tensor, "K J"]:
    """Return ``log(mean_c exp(s_ijc))``: one score per pair, by which neighbours are chosen.

    Args:
        scores: By class.
        dtype: Of the result.
        block_bytes: The most that scores in work take at a time.

    >>> scores = ClassScores(torch.zeros(1, 2), torch.tensor([[3.0, 1.0], [2.0, 2.0]]).log())
    >>> over_classes(scores).exp()
    tensor([[2., 2.]])
    """
    if isinstance(scores, ClassScores):
        return scores.pair.to(dtype) + mean_over_classes(scores.source.to(dtype))
    step = block_bytes // (4 * scores[0].numel())
    parts = [mean_over_classes(scores[rows].to(dtype)) for rows in spans(len(scores), step)]
    return torch.cat(parts)


def mean_over_classes(logs: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch"]:
    """Return ``log(mean_c exp(x_c))``."""
    return logs.logsumexp(dim=-1) - torch.tensor(float(logs.shape[-1])).log().to(logs)
