"""Estimated probability distributions (EPD): what classes a client's data seem to hold, [K, C].

KnFu (arXiv 2403.11892) scores clients by an EPD of their local data. No public text of its
definition could be read, so these are named variants and none of them is claimed to be the paper's.
They differ in what has to leave the client: ``mean_soft`` needs nothing but the shared
predictions, the two label-aware forms need labels of the *public* set, and the last two send the
client's own class shares.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.errors import KnowledgeError
from fedfuse.fusion.softmax import softmax
from fedfuse.shapes import Bool, Float, Int


def mean_soft(
    logits: Float[Tensor, "K P C"],
    mask: Bool[Tensor, "K P"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "K C"]:
    """Return each client's mean prediction ``softmax(z / T)`` over the samples it answered.

    A client that answered nothing gets the uniform distribution.

    >>> mean_soft(torch.tensor([[[0.0, 0.0], [50.0, 0.0]]]))
    tensor([[0.7500, 0.2500]])
    """
    probs = softmax(logits, temperature)
    if mask is None:
        return probs.mean(dim=1)
    total = torch.where(mask.unsqueeze(-1), probs, 0).sum(dim=1)
    return _normalise(total)


def prior_corrected(
    logits: Float[Tensor, "K P C"],
    labels: Int[Tensor, " P"],
    mask: Bool[Tensor, "K P"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "K C"]:
    """Return :func:`mean_soft` divided by the class shares of the public set, renormalised.

    A skewed public set pulls every client's mean prediction toward its own frequent classes; the
    division takes that out. Shares are those of the samples the client answered; an absent class
    counts as if it had one sample, since nothing can be divided by zero.
    """
    counts = _class_counts(labels, logits, mask)
    return _normalise(mean_soft(logits, mask, temperature) / counts.clamp_min(1))


def class_conditional(
    logits: Float[Tensor, "K P C"],
    labels: Int[Tensor, " P"],
    mask: Bool[Tensor, "K P"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "K C"]:
    """Return the mean probability of class c on the public samples *of* class c, normalised.

    It asks how well a client knows a class instead of how often it names it. A class without an
    answered sample gets 0: the public set cannot tell.
    """
    probs = softmax(logits, temperature)
    onehot = one_hot(labels, logits.shape[-1]).to(probs.dtype)
    answered = probs if mask is None else torch.where(mask.unsqueeze(-1), probs, 0)
    total = torch.einsum("kpc,pc->kc", answered, onehot)
    return _normalise(total / _class_counts(labels, logits, mask).clamp_min(1))


def label_histogram(
    class_distribution: Float[Tensor, "K C"],
    num_examples: Int[Tensor, " K"],
    smoothing: float = 0.0,
) -> Float[Tensor, "K C"]:
    """Return the class shares that the clients sent, with Laplace smoothing.

    Args:
        class_distribution: Shares of each class in the private data; noise may have pushed some
            below zero, which are cut off.
        num_examples: Private training samples of each client.
        smoothing: Samples added to every class, 0 for none.

    >>> label_histogram(torch.tensor([[1.0, 0.0]]), torch.tensor([2]), smoothing=1.0)
    tensor([[0.7500, 0.2500]])
    """
    shares = _normalise(class_distribution.clamp_min(0))
    return _normalise(shares * num_examples.unsqueeze(1).to(shares.dtype) + smoothing)


def oracle(class_distribution: Float[Tensor, "K C"]) -> Float[Tensor, "K C"]:
    """Return the true class shares, untouched: an upper bound for ablations, not a method.

    Raises:
        KnowledgeError: If a row is not a distribution, so it cannot be the truth.
    """
    if bool(no_distribution(class_distribution).any()):
        raise KnowledgeError(
            "The oracle's class distribution is not a distribution",
            allowed="rows of shares from 0 that sum to 1",
            next_step="Turn label noise off, or choose scorer.epd=label_histogram.",
        )
    return class_distribution


def no_distribution(class_distribution: Float[Tensor, "K C"]) -> Bool[Tensor, " K"]:
    """Tell whose shares are none: below 0, or with another sum than 1 (within 1e-4)."""
    sums = class_distribution.sum(dim=1)
    return (class_distribution < 0).any(dim=1) | ~torch.isclose(
        sums, torch.ones_like(sums), atol=1e-4
    )


def _class_counts(
    labels: Int[Tensor, " P"], logits: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None
) -> Float[Tensor, "k C"]:
    """Return how many answered public samples each class has, per client where masked."""
    onehot = one_hot(labels, logits.shape[-1]).to(logits.dtype)
    if mask is None:
        return onehot.sum(dim=0, keepdim=True)
    return mask.to(logits.dtype) @ onehot


def _normalise(mass: Float[Tensor, "K C"]) -> Float[Tensor, "K C"]:
    """Return the rows divided by their sums; a row without any mass becomes uniform."""
    total = mass.sum(dim=1, keepdim=True)
    uniform = torch.full_like(mass, 1 / mass.shape[1])
    return torch.where(total > 0, mass / total.clamp_min(torch.finfo(mass.dtype).tiny), uniform)
