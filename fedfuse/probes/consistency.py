"""Who is right about a sample every time it is asked, a little changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.probes.protocol import Asked, within
from fedfuse.validation import require_count, require_number


def consistent(right: Tensor) -> tuple[float, float]:
    """Return the share of right answers, and the share of samples with nothing but right answers.

    Args:
        right: bool [k, n], for each copy which samples are answered right.

    >>> right = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 1], [1, 0, 0, 1]]).bool()
    >>> accuracy, share = consistent(right)
    >>> round(accuracy, 6), share
    (0.666667, 0.5)
    """
    return float(right.double().mean()), float(right.all(dim=0).double().mean())


@dataclass(frozen=True, slots=True)
class Consistency:
    """Ask about several noisy copies of each sample.

    After the consistency over instances of one task in Dynamic Intelligence Assessment (DIA-Bench,
    Dunkel et al. 2024, https://arxiv.org/abs/2410.15490); the form with noise is ours.

    Args:
        k: Copies of each sample.
        noise: Standard deviation of what is added, in units of the inputs before they are
            normalised.
    """

    k: int = 5
    noise: float = 0.1

    needs_numbers: ClassVar[bool] = True
    """Of texts nothing can be calculated."""

    def __post_init__(self) -> None:
        require_count("Consistency", "k", self.k)
        require_number("Consistency", "noise", self.noise, at_least=0)

    def __call__(
        self, model: Asked, inputs: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        """Return the share that is right in all copies, their accuracy, and how sure the right are.

        ``confidence_right`` is the mean probability of the answer where it is right; NaN where none
        is.
        """
        right, confidence = [], []
        for _ in range(self.k):
            noise = torch.randn(inputs.shape, generator=generator).to(inputs.device)
            copy = within(inputs + self.noise * noise, model.bounds)
            sure, named = model.predict(copy).softmax(dim=1).max(dim=1)
            right.append(named == labels)
            confidence.append(sure)
        there = torch.stack(right)
        accuracy, share = consistent(there)
        return {
            "consistency": share,
            "accuracy_copies": accuracy,
            "confidence_right": float(torch.stack(confidence)[there].double().mean()),
        }
