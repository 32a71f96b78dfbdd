"""Bound a vector of logits, so that no data set can move it further than a known distance."""

from __future__ import annotations

from torch import Tensor

from fedfuse.shapes import Float


def centre(logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
    """Return the logits less their mean: the same probabilities, and no norm spent on the mean.

    >>> import torch
    >>> centre(torch.tensor([1.0, 2.0, 6.0]))
    tensor([-2., -1.,  3.])
    """
    return logits - logits.mean(dim=-1, keepdim=True)


def clip_l2(logits: Float[Tensor, "*batch C"], clip: float) -> Float[Tensor, "*batch C"]:
    """Scale every vector down to a Euclidean norm of at most ``clip``; shorter ones stay.

    Two clipped vectors are at most ``2 * clip`` apart, whatever they were.

    >>> import torch
    >>> clip_l2(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), clip=1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    return _scale(logits, logits.double().norm(dim=-1, keepdim=True), clip)


def clip_l1(logits: Float[Tensor, "*batch C"], clip: float) -> Float[Tensor, "*batch C"]:
    """Scale every vector down to a sum of magnitudes of at most ``clip``; shorter ones stay.

    >>> import torch
    >>> clip_l1(torch.tensor([3.0, -1.0]), clip=2.0)
    tensor([ 1.5000, -0.5000])
    """
    return _scale(logits, logits.double().abs().sum(dim=-1, keepdim=True), clip)


def _scale(logits: Tensor, norm: Tensor, clip: float) -> Tensor:
    # In float64: the float32 norm of large logits overflows, and infinity would scale them to 0.
    factor = (clip / norm.clamp(min=clip)).clamp(max=1.0)
    return (logits.double() * factor).to(logits.dtype)
