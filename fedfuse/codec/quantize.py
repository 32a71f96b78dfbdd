"""CFD's constrained quantiser: the nearest distribution whose entries are multiples of a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.codec.protocol import Layout
from fedfuse.codec.spaces import from_probabilities, to_probabilities
from fedfuse.shapes import Float, Int
from fedfuse.types import Space
from fedfuse.validation import require_count, require_number


def simplex_counts(probs: Float[Tensor, "*batch C"], total: int) -> Int[Tensor, "*batch C"]:
    """Return the counts n that sum to ``total`` and minimise ``sum_c |n_c / total - p_c|``.

    The method of largest remainders: round all down, then give what is missing, one each, to the
    largest fractions. It is exact, because moving a count from a larger fraction to a smaller one
    can only add to the distance. Ties go to the lower class, where CFD draws at random.

    >>> simplex_counts(torch.tensor([0.5, 0.3, 0.2]), total=3)
    tensor([1, 1, 1])
    >>> simplex_counts(torch.tensor([0.6, 0.3, 0.1]), total=3)
    tensor([2, 1, 0])
    """
    exact = probs.double()
    exact = total * exact / exact.sum(dim=-1, keepdim=True)
    whole = exact.floor()
    missing = (total - whole.sum(dim=-1, keepdim=True)).round()
    order = (exact - whole).argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    return (whole + (rank < missing)).long()


@dataclass(frozen=True, slots=True)
class Quantize:
    """Send probabilities on a grid of ``2**bits - 1`` steps that sum to 1 (CFD's ``Q_b``).

    Sattler et al., "CFD" (TNSE 2022): ``Q_b(p) = argmin_q |q - p|_1`` over the distributions q
    with entries in ``{0, 1 / (2**b - 1), ..., 1}``. One bit is the one-hot of the largest class
    and is sent as its id, ``ceil(log2 C)`` bits a sample; b bits cost ``b C`` bits a sample.

    Args:
        bits: b, 1 to 8.
        temperature: Of the softmax, where logits are sent.
    """

    bits: int = 1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_count("Quantize", "bits", self.bits)
        require_number("Quantize", "bits", self.bits, at_most=8)
        require_number("Quantize", "temperature", self.temperature, above=0)

    @property
    def steps(self) -> int:
        """Return how many steps make 1."""
        return int(2**self.bits) - 1

    def layout(self, num_classes: int, space: Space) -> Layout:  # noqa: ARG002
        """Return one class id, or one count per class."""
        return Layout(1, num_classes) if self.bits == 1 else Layout(num_classes, self.steps + 1)

    def to_symbols(self, values: Float[Tensor, "k P C"], space: Space) -> Tensor:
        """Return class ids [k, P, 1] or counts [k, P, C]."""
        probs = to_probabilities(values, space, self.temperature)
        if self.bits == 1:
            label = probs.argmax(dim=-1, keepdim=True)  # the first of equals
            return label.to(torch.uint8 if values.shape[-1] <= 256 else torch.int32)
        return simplex_counts(probs, self.steps).to(torch.uint8)

    def to_values(self, symbols: Tensor, space: Space, num_classes: int) -> Float[Tensor, "k P C"]:
        """Return the grid's distributions (or their logarithms)."""
        if self.bits == 1:
            probs = one_hot(symbols.squeeze(-1).long(), num_classes).float()
        else:
            probs = symbols.float() / self.steps
        return from_probabilities(probs, space, self.temperature)
