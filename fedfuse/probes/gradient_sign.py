"""Accuracy on inputs that are moved to where the model is wrong: one step (FGSM) or many (PGD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.metrics import accuracy
from fedfuse.probes.protocol import Asked, Bounds, require_name, within
from fedfuse.validation import require_count, require_flag, require_number


def ascended(inputs: Tensor, gradient: Tensor, step: float, bounds: Bounds | None) -> Tensor:
    """Return inputs a step along the sign of the gradient, within what inputs can be.

    >>> x, g = torch.tensor([0.6, 0.4]), torch.tensor([-0.8, 0.8])
    >>> [round(value, 6) for value in ascended(x, g, 0.15, (0.0, 1.0)).tolist()]
    [0.45, 0.55]
    """
    return within(inputs + step * gradient.sign(), bounds)


@dataclass(frozen=True, slots=True)
class FGSM:
    """Fast gradient sign: every value of an input moves by epsilon to where the loss grows.

    Explaining and Harnessing Adversarial Examples (Goodfellow et al. 2015,
    https://arxiv.org/abs/1412.6572).

    Args:
        epsilon: How far a value moves, in units of the inputs before they are normalised.
        name: The metric is ``accuracy_`` and this.
    """

    epsilon: float = 0.03
    name: str = "fgsm"

    needs_numbers: ClassVar[bool] = True
    """Of texts nothing can be calculated."""

    def __post_init__(self) -> None:
        require_name("FGSM", self.name)
        require_number("FGSM", "epsilon", self.epsilon, at_least=0)

    def __call__(
        self,
        model: Asked,
        inputs: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> dict[str, float]:
        """Return the accuracy on the moved inputs."""
        moved = ascended(inputs, model.gradient(inputs, labels), self.epsilon, model.bounds)
        return {f"accuracy_{self.name}": accuracy(model.predict(moved), labels)}


@dataclass(frozen=True, slots=True)
class PGD:
    """Projected gradient ascent: steps of the gradient's sign that end within epsilon.

    Towards Deep Learning Models Resistant to Adversarial Attacks (Madry et al. 2018,
    https://arxiv.org/abs/1706.06083).

    Args:
        epsilon: How far a value moves at most, in units of the inputs before they are normalised.
        steps: How many steps are taken.
        step_size: How far each goes; None for 2.5 * epsilon / steps.
        random_start: Whether the first step begins at a random place within epsilon.
        name: The metric is ``accuracy_`` and this.
    """

    epsilon: float = 0.03
    steps: int = 10
    step_size: float | None = None
    random_start: bool = True
    name: str = "pgd"

    needs_numbers: ClassVar[bool] = True
    """Of texts nothing can be calculated."""

    def __post_init__(self) -> None:
        require_name("PGD", self.name)
        require_number("PGD", "epsilon", self.epsilon, at_least=0)
        require_count("PGD", "steps", self.steps)
        if self.step_size is not None:
            require_number("PGD", "step_size", self.step_size, above=0)
        require_flag("PGD", "random_start", self.random_start)

    def __call__(
        self, model: Asked, inputs: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        """Return the accuracy on the moved inputs."""
        step = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        low, high, moved = inputs - self.epsilon, inputs + self.epsilon, inputs
        if self.random_start:
            draw = torch.rand(inputs.shape, generator=generator).to(inputs.device)
            moved = within(inputs + self.epsilon * (2 * draw - 1), model.bounds)
        for _ in range(self.steps):
            moved = ascended(moved, model.gradient(moved, labels), step, model.bounds)
            moved = moved.clamp(low, high)
        return {f"accuracy_{self.name}": accuracy(model.predict(moved), labels)}
