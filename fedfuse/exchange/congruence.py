"""Predictions of different models made equally sure, sample by sample (FedDKC).

Exploring the Distributed Knowledge Congruence in Proxy-data-free Federated Distillation (arXiv
2204.07028): what one model says in small differences another says in large ones, and a server that
learns from both takes how sure they are for what they know. After refinement the largest
probability of every prediction is the same (KKR), or its entropy is (SKR); the likeliest class
stays. Read in the authors' code, that of FedICT: there 0.12 of ten classes and 3.2 bits, here in
shares of what is possible, so that they mean the same of any number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.distill.losses import xlogx
from fedfuse.shapes import Float
from fedfuse.validation import require_number, require_one_of

HALVINGS = 60
"""Of the interval of logarithms in which an entropy's temperature is searched."""
EVEN = 1e-9
"""How far above 1/C a largest probability must be to be told from rounding."""
LOWEST, HIGHEST = 1e-4, 1e3
"""Temperatures between which it is, as in the authors' code."""


def same_peak(probs: Float[Tensor, "N C"], peak: float) -> Float[Tensor, "N C"]:
    """Return probabilities whose largest is ``peak``, moved towards or away from 1/C.

    That is ``1/C + (p - 1/C) (peak - 1/C) / (max p - 1/C)``; where it falls below 0, or p is even,
    the likeliest class gets ``peak`` and the others share the rest evenly.

    >>> same_peak(torch.tensor([[0.6, 0.2, 0.2], [0.4, 0.35, 0.25]]), 0.5)
    tensor([[0.5000, 0.2500, 0.2500],
            [0.5000, 0.3750, 0.1250]])
    """
    num_classes = probs.shape[1]
    even, p = 1 / num_classes, probs.double()
    above = p / p.sum(dim=1, keepdim=True) - even
    most, likeliest = above.max(dim=1, keepdim=True)
    moved = even + above * (peak - even) / most
    flat = torch.full_like(p, (1 - peak) / (num_classes - 1)).scatter(1, likeliest, peak)
    fits = (moved >= 0).all(dim=1, keepdim=True) & (most > EVEN)
    return torch.where(fits, moved, flat).to(probs.dtype)


def same_entropy(logits: Float[Tensor, "N C"], entropy: float) -> Float[Tensor, "N C"]:
    """Return softmax(z / t), t by bisection so that its entropy is ``entropy`` nats.

    Even logits stay even, whatever the entropy.

    >>> probs = same_entropy(torch.tensor([[8.0, 0.0], [0.5, 0.0]]), 0.5)
    >>> torch.allclose(probs[0], probs[1]), -(probs * probs.log()).sum(1)
    (True, tensor([0.5000, 0.5000]))
    """
    z = logits.double()
    low = torch.full((len(z), 1), math.log(LOWEST), dtype=torch.float64)
    high = torch.full_like(low, math.log(HIGHEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        sure = -xlogx((z / middle.exp()).softmax(dim=1)).sum(dim=1, keepdim=True) < entropy
        low, high = torch.where(sure, middle, low), torch.where(sure, high, middle)
    return (z / ((low + high) / 2).exp()).softmax(dim=1).to(logits.dtype)


@dataclass(frozen=True, slots=True)
class Refinement:
    """How logits become the probabilities that are learned from.

    Args:
        by: ``none`` leaves them as they are, ``peak`` gives all one largest probability (KKR),
            ``entropy`` one entropy (SKR).
        peak: That probability times C, between 1 and C.
        sharpness: What logits are divided by before the peak is moved, beside the temperature.
        entropy: The entropy over its largest, log C.
        temperature: Of the softmax; the entropy's search finds one itself.
    """

    by: str = "none"
    peak: float = 1.2
    sharpness: float = 0.05
    entropy: float = 0.963
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_one_of("Refinement", "refine", self.by, tuple(_REFINEMENTS))
        require_number("Refinement", "peak", self.peak, above=1)
        require_number("Refinement", "sharpness", self.sharpness, above=0)
        require_number("Refinement", "entropy", self.entropy, above=0, below=1)

    def __call__(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Return the probabilities of these logits."""
        return _REFINEMENTS[self.by](self, logits)


def _plain(to: Refinement, logits: Tensor) -> Tensor:
    return (logits / to.temperature).softmax(dim=1)


def _peaked(to: Refinement, logits: Tensor) -> Tensor:
    sharp = (logits / to.sharpness / to.temperature).softmax(dim=1)
    return same_peak(sharp, to.peak / logits.shape[1])


def _as_sure(to: Refinement, logits: Tensor) -> Tensor:
    return same_entropy(logits, to.entropy * math.log(logits.shape[1]))


_REFINEMENTS: dict[str, Callable[[Refinement, Tensor], Tensor]] = {
    "none": _plain,
    "peak": _peaked,
    "entropy": _as_sure,
}
