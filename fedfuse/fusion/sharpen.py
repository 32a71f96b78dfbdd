"""Change how peaked fused probabilities are, class by class, without leaving the simplex."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.shapes import Float
from fedfuse.validation import require_number

_MANY_CLASSES = 20


def identity(probs: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
    """Return the probabilities as they are (as a sharpener: turn logits into them, no more)."""
    return probs


def era(probs: Float[Tensor, "*batch C"], temperature: float) -> Float[Tensor, "*batch C"]:
    """Return ``softmax(p / T)``, a softmax of *probabilities*, which T below 1 sharpens.

    >>> import torch
    >>> era(torch.tensor([0.6, 0.3, 0.1]), temperature=0.1)
    tensor([0.9465, 0.0471, 0.0064])
    """
    return (probs / temperature).softmax(dim=-1)


def power(probs: Float[Tensor, "*batch C"], exponent: float) -> Float[Tensor, "*batch C"]:
    """Return ``p ** b / sum(p ** b)``: the same for any number of classes, zeros stay zero.

    >>> import torch
    >>> power(torch.tensor([0.6, 0.3, 0.1]), exponent=2.0)
    tensor([0.7826, 0.1957, 0.0217])
    """
    # As a softmax of logarithms, since p ** b underflows to 0 / 0 for a large exponent.
    return (exponent * probs.log()).softmax(dim=-1)


def hard(probs: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
    """Return 1 for the most probable class, the first of equals, and 0 for the others.

    >>> import torch
    >>> hard(torch.tensor([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4]]))
    tensor([[0., 1., 0.],
            [1., 0., 0.]])
    """
    return one_hot(probs.argmax(dim=-1), probs.shape[-1]).to(probs.dtype)


@dataclass(frozen=True, slots=True)
class Hard:
    """Make labels of targets: pseudo-labels (Lee 2013), where they are a client's own."""

    def __call__(self, probs: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the labels, one-hot."""
        return hard(probs)


@dataclass(frozen=True, slots=True)
class ERA:
    """Entropy reduction aggregation of DS-FL (Itahara et al. 2021), ``softmax(p / T)``, T = 0.1.

    Its input is bounded by 1, so it is not free of scale: with T = 0.1 a peak of 0.1 among 100
    classes comes out *flatter*, as 0.02. It warns above 20 classes; :class:`Power` has no such
    limit. The form and T are as three public re-implementations have them.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        require_number("ERA", "temperature", self.temperature, above=0)

    def __call__(self, probs: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the sharpened probabilities."""
        if probs.shape[-1] > _MANY_CLASSES:
            # Python shows a warning once per place and text: once per run, not per round.
            warnings.warn(
                f"ERA with {probs.shape[-1]} classes can flatten targets instead of sharpening "
                f"them, because a softmax of probabilities depends on their number; "
                f"sharpen=power does not.",
                UserWarning,
                stacklevel=1,
            )
        return era(probs, self.temperature)


@dataclass(frozen=True, slots=True)
class Power:
    """Sharpen by ``p ** b``: the "enhanced ERA" of SCARLET (arXiv 2504.19602, read in its code).

    Args:
        exponent: b; above 1 sharpens, 1 changes nothing, below 1 flattens.
    """

    exponent: float = 2.0

    def __post_init__(self) -> None:
        require_number("Power", "exponent", self.exponent, above=0)

    def __call__(self, probs: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the sharpened probabilities."""
        return power(probs, self.exponent)
