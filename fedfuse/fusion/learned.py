"""KT-pFL: learn the fusion weights c [K, K] so that fused targets fit the clients' predictions.

Zhang et al., NeurIPS 2021. The published code was read: its step is :func:`published_step`. The
paper's objective is known from a third party's re-implementation only: data shares, KL, and a
squared distance to uniform weights, in the form of :func:`objective`. Which way round its KL goes,
that the data shares weigh a client's distance as they do its fit, and how both are minimised are
our reading.

Both want to be watched (:func:`fedfuse.fusion.weights.distances`): the fit alone is best at c = I,
each client its own teacher, which only ``rho`` prevents; and the published ``softmax(5 c)`` pulls
the weights of 6 or more clients back to uniform in every step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Float, Int

_SCALE = 5.0
_WANTED_GRADIENT = 0.01
_SCALINGS = 5
_LEAST = -80.0
"""Log of the least weight: a source at 0 could never come back."""


def objective(
    log_probs: Float[Tensor, "K P C"],
    log_weights: Float[Tensor, "K K"],
    num_examples: Int[Tensor, " K"],
    rho: float,
    mask: Bool[Tensor, "K P"] | None = None,
) -> Float[Tensor, ""]:
    """Return ``sum_k n_k/n (mean_x KL(s_k(x) || p_k(x)) + rho sum_j (c_kj - 1/K)^2)``.

    ``s_k = sum_j c_kj p_j`` is client k's teacher. With a mask the sum runs over those who
    answered, renormalised, and the mean over the samples that k answered. The data shares weigh
    both terms: beside a fit that has them, a distance without them counts K times as much.
    """
    weights = log_weights.softmax(dim=1)
    _, mixture, gap, share = _fit(log_probs, weights, mask)
    fit = (share * (mixture * gap).sum(dim=-1)).sum(dim=1)
    distance = (weights - 1 / len(weights)).square().sum(dim=1)
    return (_data_shares(num_examples, fit) * (fit + rho * distance)).sum()


def faithful_step(
    log_probs: Float[Tensor, "K P C"],
    log_weights: Float[Tensor, "K K"],
    rho: float,
    learning_rate: float = 1.0,
    mask: Bool[Tensor, "K P"] | None = None,
) -> Float[Tensor, "K K"]:
    """Return the log-weights after one step down :func:`objective`, analytic, five GEMMs.

    The weights are ``c = softmax(theta)`` and ``theta`` moves against the gradient by c, a natural
    gradient: a step's size does not shrink with K, as that of a plain gradient by theta does.
    A row moves by ``learning_rate / (1 + 2 rho)`` times its gradient: relative to entropy the row's
    objective is smooth with that constant (a mixture contracts KL), so that with a learning rate of
    at most 1 and without a mask the objective never rises. Data shares scale a row's objective and
    that constant alike, so that no step depends on them.
    """
    weights = log_weights.softmax(dim=1)
    num_clients = len(weights)
    known, mixture, gap, share = _fit(log_probs, weights, mask)
    present = _present(known, mask)
    mass = (weights @ present).clamp_min(torch.finfo(weights.dtype).tiny)
    pull = share / mass
    # d s_k / d c_kj = m_j (p_j - s_k) / M_k; the 1 of d (s log s) is the same for every j.
    fit = (pull.unsqueeze(-1) * gap).flatten(1) @ known.flatten(1).T
    fit = fit - (pull * (mixture * gap).sum(dim=-1)) @ present.T
    gradient = fit + 2 * rho * (weights - 1 / num_clients)
    moved = log_weights - learning_rate / (1 + 2 * rho) * gradient
    return moved.log_softmax(dim=1).clamp_min(_LEAST)


def published_step(
    probs: Float[Tensor, "K P C"],
    weights: Float[Tensor, "K K"],
    rho: float,
    mask: Bool[Tensor, "K P"] | None = None,
) -> Float[Tensor, "K K"]:
    """Return the weights after one step of the published code.

    For each row the gradient of ``MSE(p_k, sum_j c_kj p_j) + rho MSE(c_k, 1/K)`` by c; a step
    whose size is divided by 5 while the row's mean absolute gradient is above 0.01 and multiplied
    by 5 while it is below, 5 times; then ``c_k = softmax(5 c_k)``. A mask, which the code does not
    know, leaves unanswered samples out of the fit and renormalises the others' mixture.
    """
    num_clients, _, num_classes = probs.shape
    known = probs if mask is None else torch.where(mask.unsqueeze(-1), probs, 0)
    present = _present(known, mask)
    mass = (weights @ present).clamp_min(torch.finfo(weights.dtype).tiny)
    mixture = (weights @ known.flatten(1)).view_as(known) / mass.unsqueeze(-1)
    share = present / present.sum(dim=1, keepdim=True).clamp_min(1)
    error = (share / mass).unsqueeze(-1) * 2 / num_classes * (mixture - known)
    gradient = error.flatten(1) @ known.flatten(1).T
    gradient = gradient + 2 * rho / num_clients * (weights - 1 / num_clients)
    return (_SCALE * (weights - _step_size(gradient) * gradient)).softmax(dim=1)


def _fit(
    log_probs: Float[Tensor, "K P C"],
    weights: Float[Tensor, "K K"],
    mask: Bool[Tensor, "K P"] | None,
) -> tuple[
    Float[Tensor, "K P C"], Float[Tensor, "K P C"], Float[Tensor, "K P C"], Float[Tensor, "K P"]
]:
    """Return p (0 where masked), s, ``log s - log p_k`` and each sample's share of k's mean."""
    logs = log_probs if mask is None else torch.where(mask.unsqueeze(-1), log_probs, 0)
    known = logs.exp() if mask is None else logs.exp() * mask.unsqueeze(-1)
    present = _present(known, mask)
    tiny = torch.finfo(known.dtype).tiny
    mass = (weights @ present).clamp_min(tiny)
    mixture = (weights @ known.flatten(1)).view_as(known) / mass.unsqueeze(-1)
    share = present / present.sum(dim=1, keepdim=True).clamp_min(1)
    return known, mixture, mixture.clamp_min(tiny).log() - logs, share


def _present(
    known: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None
) -> Float[Tensor, "K P"]:
    """Return the mask as numbers."""
    return torch.ones_like(known[..., 0]) if mask is None else mask.to(known.dtype)


def _data_shares(num_examples: Int[Tensor, " K"], like: Tensor) -> Float[Tensor, " K"]:
    """Return ``n_k / n``; a client without samples counts as one of one sample."""
    sizes = num_examples.clamp_min(1).to(like.dtype)
    return sizes / sizes.sum()


def _step_size(gradient: Float[Tensor, "K K"]) -> Float[Tensor, "K 1"]:
    """Return each row's step, by which its mean absolute gradient comes near 0.01."""
    mean = gradient.abs().mean(dim=1, keepdim=True)
    size = torch.ones_like(mean)
    for _ in range(_SCALINGS):
        size = torch.where(mean * size > _WANTED_GRADIENT, size / 5, size)
        size = torch.where(mean * size < _WANTED_GRADIENT, size * 5, size)
    return size
