"""What says how much each client's knowledge of each class is worth: evidence [K, C], above 0.

Counts and expected counts are numbers of private samples, the others are shares or scales; only
ratios between clients matter, class by class. They differ in what has to leave the client and in
whether they still see anything once a client's label prior has been taken out of what it shares
(``extract=adjusted``):

* ``counts`` do not look at predictions. They need the clients' class shares.
* ``epd``, the client's mean prediction, *is* its label prior, seen through its predictions: taken
  out of them, what is left of it is little.
* ``consensus``, ``class_conditional`` and ``public_accuracy`` ask what a client says on samples
  *of* a class, and ``spread`` by how much it tells samples apart by it; they see what was learned.
  The spread of a class's log-odds is the same to the last bits whatever prior was added to them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.fusion.estimators import mean_soft
from fedfuse.fusion.softmax import softmax
from fedfuse.shapes import Bool, Float, Int

LEAST_SPREAD = 1e-3
"""Of a class that a client never tells apart, relative to what it does on all of them."""


def counts(
    class_distribution: Float[Tensor, "K C"], num_examples: Int[Tensor, " K"], floor: float
) -> Float[Tensor, "K C"]:
    """Return the private samples of each class, ``max(n_j q_jc, floor)``.

    >>> counts(torch.tensor([[0.9, 0.1, 0.0]]), torch.tensor([20]), floor=0.5)
    tensor([[18.0000,  2.0000,  0.5000]])
    """
    return (class_distribution * num_examples.unsqueeze(1)).clamp_min(floor)


def expected_counts(
    logits: Float[Tensor, "K P C"],
    num_examples: Int[Tensor, " K"],
    mask: Bool[Tensor, "K P"] | None,
    temperature: float,
    floor: float,
) -> Float[Tensor, "K C"]:
    """Return :func:`counts` of the class shares that a client's mean prediction estimates (EPD)."""
    return counts(mean_soft(logits, mask, temperature), num_examples, floor)


def confidence_on(
    logits: Float[Tensor, "K P C"],
    of_class: Float[Tensor, "P C"],
    mask: Bool[Tensor, "K P"] | None,
    temperature: float,
) -> Float[Tensor, "K C"]:
    """Return the mean probability of a class over the samples of that class.

    Drawn toward chance as if a client had also answered C samples of each class with 1 / C.

    Args:
        logits: The clients' predictions.
        of_class: How likely each sample is of each class: labels as one-hot rows, or what the
            clients together say.
        mask: Who answered what.
        temperature: Of the softmax.

    >>> logits = torch.tensor([[[9.0, 0.0], [9.0, 0.0]]])
    >>> confidence_on(logits, torch.eye(2), None, 1.0)
    tensor([[0.6666, 0.3334]])
    """
    return _smoothed(softmax(logits, temperature), of_class, mask)


def consensus(
    total: Float[Tensor, "P C"], answers: Int[Tensor, " P"] | int
) -> Float[Tensor, "P C"]:
    """Return what the clients together say of each sample: the mean of those who answered."""
    if isinstance(answers, int):
        return total / answers
    return total / answers.clamp_min(1).unsqueeze(1)


def public_accuracy(
    logits: Float[Tensor, "K P C"], labels: Int[Tensor, " P"], mask: Bool[Tensor, "K P"] | None
) -> Float[Tensor, "K C"]:
    """Return how often a client is right on the samples of a class, ``(hits + 1) / (answers + C)``.

    >>> logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    >>> public_accuracy(logits, torch.tensor([0, 1]), None)
    tensor([[0.6667, 0.3333]])
    """
    num_classes = logits.shape[2]
    named = one_hot(logits.argmax(dim=-1), num_classes).to(logits.dtype)
    return _smoothed(named, one_hot(labels, num_classes).to(logits.dtype), mask)


def spread(
    logits: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None
) -> Float[Tensor, "K C"]:
    """Return by how much a class's logit varies over the samples, relative to all classes' logits.

    The standard deviation, over the samples answered, of the logit less its mean over the classes;
    over the root mean square of all C of them. A constant added to a client's logits of a class,
    such as the logarithm of its label prior, changes nothing, nor does the scale of all its logits.

    >>> logits = torch.tensor([[[4.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    >>> spread(logits, None), spread(2 * logits + torch.tensor([0.0, 3.0, 9.0]), None)
    (tensor([[1.4142, 0.7071, 0.7071]]), tensor([[1.4142, 0.7071, 0.7071]]))
    """
    centred = logits - logits.mean(dim=-1, keepdim=True)
    if mask is None:
        variance = centred.var(dim=1, correction=0)
    else:
        there = mask.unsqueeze(-1)
        number = there.sum(dim=1, keepdim=True).clamp_min(1)
        mean = torch.where(there, centred, 0).sum(dim=1, keepdim=True) / number
        squares = torch.where(there, (centred - mean).square(), 0).sum(dim=1)
        variance = squares / number.squeeze(1)
    scale = variance.mean(dim=1, keepdim=True)
    # Who tells no samples apart, or answered none, knows every class as little.
    relative = torch.where(scale > 0, variance / scale, 1)
    return relative.clamp_min(LEAST_SPREAD**2).sqrt()


def _smoothed(
    said: Float[Tensor, "K P C"], of_class: Float[Tensor, "P C"], mask: Bool[Tensor, "K P"] | None
) -> Float[Tensor, "K C"]:
    """Return the mean of what was said over each class's samples and C more at chance."""
    if mask is None:
        total, mass = torch.einsum("kpc,pc->kc", said, of_class), of_class.sum(dim=0)
    else:
        # Not a product with the mask: an answer that was never given may hold NaN.
        total = torch.einsum("kpc,pc->kc", torch.where(mask.unsqueeze(-1), said, 0), of_class)
        mass = mask.to(of_class.dtype) @ of_class
    return (total + 1) / (mass + said.shape[2])
