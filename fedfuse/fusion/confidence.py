"""How much a client trusts its own answer, sample by sample, read off its logits: [K, P].

Every measure returns the *logarithm* of an unnormalised, non-negative confidence, so that
``exp(sharpness * log_confidence)`` is a power of it and a ratio of two is a difference.
Port of the ideas of Fed-ET (logit variance; Cho et al. 2022) and of confidence-weighted ensembles
to predictions on a public set; Fed-ET's formula was not read in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Float

Measure = Callable[[Tensor], Tensor]


def entropy(logits: Float[Tensor, "K P C"]) -> Float[Tensor, "K P"]:
    """Return the negative entropy of ``softmax(z)``, nats: from ``-log C`` up to 0.

    As a logarithm: the confidence ``exp(-H)`` is one over the number of classes that a prediction
    hesitates between.

    >>> entropy(torch.tensor([[[0.0, 0.0], [99.0, 0.0]]])).exp()
    tensor([[0.5000, 1.0000]])
    """
    log_probs = logits.log_softmax(dim=-1)
    return (log_probs.exp() * log_probs).sum(dim=-1)


def margin(logits: Float[Tensor, "K P C"]) -> Float[Tensor, "K P"]:
    """Return ``log(p_(1) - p_(2))``, the gap between the two most probable classes.

    >>> margin(torch.tensor([[[0.7, 0.2, 0.1]]]).log()).exp()
    tensor([[0.5000]])
    """
    best = logits.softmax(dim=-1).topk(2, dim=-1).values
    return _log(best[..., 0] - best[..., 1])


def max_prob(logits: Float[Tensor, "K P C"]) -> Float[Tensor, "K P"]:
    """Return ``log max_c p_c``.

    >>> max_prob(torch.tensor([[[0.7, 0.2, 0.1]]]).log()).exp()
    tensor([[0.7000]])
    """
    return logits.log_softmax(dim=-1).amax(dim=-1)


def variance(logits: Float[Tensor, "K P C"]) -> Float[Tensor, "K P"]:
    """Return ``log Var_c(z_c)`` over the classes, the weight of Fed-ET's consensus.

    The scale of raw logits is a matter of the architecture: a network with twice the logits gets
    four times the say. :func:`standardise` takes that out.

    >>> variance(torch.tensor([[[1.0, -1.0], [3.0, -3.0]]])).exp()
    tensor([[1., 9.]])
    """
    return _log(logits.var(dim=-1, correction=0))


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {"entropy": entropy, "margin": margin, "max_prob": max_prob, "variance": variance}
)
"""The measures by the name that a configuration gives them."""


def standardise(
    logits: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None = None
) -> Float[Tensor, "K P C"]:
    """Return each client's logits over their own scale: the mean of ``Var_c(z)`` becomes 1.

    The mean is over the samples that the client answered; a client whose logits never vary stays
    as it is.

    >>> standardise(torch.tensor([[[2.0, -2.0]], [[50.0, -50.0]]]))[:, 0]
    tensor([[ 1., -1.],
            [ 1., -1.]])
    """
    spread = logits.var(dim=-1, correction=0)
    if mask is None:
        mean = spread.mean(dim=1)
    else:
        mean = torch.where(mask, spread, 0).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
    scale = torch.where(mean > 0, mean, 1).sqrt()
    return logits / scale.view(-1, 1, 1)


def _log(confidence: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
    """Return the logarithm, finite also for no confidence at all."""
    return confidence.clamp_min(torch.finfo(confidence.dtype).tiny).log()
