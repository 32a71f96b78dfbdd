"""Public samples from a generator that the server trains on its own model: no public data at all.

Data-free distillation in general (DAFL, arXiv 1904.01186, and what came of it) trains a generator
on a teacher that is there to be asked. Here the teacher is the server's model, which has learned
what clients answered; AF-STip (arXiv 2412.11175) is why it is here. The form is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedfuse.augment.guided import ServerView
from fedfuse.augment.protocol import Augmented
from fedfuse.shapes import Float
from fedfuse.validation import require_count, require_number

LEVELS = 255
"""Steps from the least value to the largest, as in an image."""


def one_hot(probs: Float[Tensor, "n C"]) -> Tensor:
    """Return how unsure predictions are, ``-mean log max p``.

    >>> one_hot(torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    tensor(0.1643)
    """
    return -probs.amax(dim=1).log().mean()


def balance(probs: Float[Tensor, "n C"]) -> Tensor:
    """Return how unevenly classes are predicted, ``sum q log q`` of the mean prediction q.

    >>> balance(torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    tensor(-0.6881)
    """
    mean = probs.mean(dim=0)
    return torch.xlogy(mean, mean).sum()


@dataclass(frozen=True, slots=True)
class SampleGenerator:
    """Replace public samples by those of a generator that the server trains before every round.

    It minimises ``one_hot + beta balance - gamma KL(f_T || f_S)`` of what the server's model f_T
    and its state before its last lesson, f_S, say of what is generated. Values lie between the
    least and the largest of the round's public samples (by channel of images, by feature), in 256
    levels; these travel, a byte a value. Until the model has had a lesson, samples stay as they
    are: noise, as a rule. Labels are lost.

    The generator is a network of one hidden layer, kept from round to round; its optimiser, Adam,
    begins anew in each.

    Args:
        latent: Random numbers that a sample is made of.
        steps: Optimiser steps of the generator before a round.
        beta: Weight of equally frequent classes.
        gamma: Weight of the disagreement of f_T and f_S.
        hidden: Units of the hidden layer.
        batch_size: Samples a step.
        learning_rate: Of its steps.
    """

    latent: int = 100
    steps: int = 50
    beta: float = 5.0
    gamma: float = 1.0
    hidden: int = 256
    batch_size: int = 64
    learning_rate: float = 0.001
    lag: ClassVar[int] = 1
    needs_student: ClassVar[bool] = True
    labels_kept: ClassVar[bool] = False

    needs_numbers: ClassVar[bool] = True
    """Of texts nothing can be calculated."""

    def __post_init__(self) -> None:
        for name in ("latent", "hidden", "batch_size"):
            require_count("SampleGenerator", name, getattr(self, name))
        require_count("SampleGenerator", "steps", self.steps, at_least=0)
        for name in ("beta", "gamma"):
            require_number("SampleGenerator", name, getattr(self, name), at_least=0)
        require_number("SampleGenerator", "learning_rate", self.learning_rate, above=0)

    def width(self, shape: tuple[int, ...]) -> int:
        """Return a byte a value."""
        return math.prod(shape)

    def loss(self, now: Float[Tensor, "n C"], earlier: Float[Tensor, "n C"]) -> Tensor:
        """Return what the generator minimises, given the two models' logits."""
        teacher, student = now.log_softmax(dim=1), earlier.log_softmax(dim=1)
        probs = teacher.exp()
        apart = (probs * (teacher - student)).sum(dim=1).mean()
        return one_hot(probs) + self.beta * balance(probs) - self.gamma * apart

    def choose(self, inputs: Tensor, generator: torch.Generator, view: ServerView) -> Tensor:  # noqa: ARG002
        """Train the generator; return what it makes, uint8 [m, d]."""
        device, draw = inputs.device, view.generator
        network = self._network(inputs[0].numel(), view).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        low, span = _range(inputs)
        for model in (view.now, view.earlier):
            model.eval()
        parameters = list(network.parameters())
        with torch.enable_grad():
            for _ in range(self.steps):
                latent = torch.randn(self.batch_size, self.latent, generator=draw).to(device)
                made = low + span * network(latent).view(-1, *inputs.shape[1:])
                loss = self.loss(view.now(made), view.earlier(made))
                gradients = torch.autograd.grad(loss, parameters)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
        for name, value in network.state_dict().items():
            view.memory[name] = value.detach().cpu().clone()
        with torch.no_grad():
            latent = torch.randn(len(inputs), self.latent, generator=draw).to(device)
            levels: Tensor = (LEVELS * network(latent)).round()
            return levels.to(torch.uint8).cpu()

    def __call__(
        self,
        inputs: Tensor,
        generator: torch.Generator,  # noqa: ARG002
        sent: Tensor | None = None,
    ) -> Augmented:
        """Return what was sent, as model inputs."""
        if sent is None:
            return Augmented(inputs, labels_kept=False)
        low, span = _range(inputs)
        share = sent.to(inputs.device, inputs.dtype).view_as(inputs) / LEVELS
        return Augmented(low + span * share, labels_kept=False)

    def _network(self, width: int, view: ServerView) -> nn.Sequential:
        """Return the generator as it is after the round before, or a new one."""
        shapes = ((self.latent, self.hidden), (self.hidden, width))
        first, last = (nn.Linear(*shape, device="meta").to_empty(device="cpu") for shape in shapes)
        network = nn.Sequential(first, nn.ReLU(), last, nn.Sigmoid())
        if view.memory:
            network.load_state_dict(dict(view.memory))
            return network
        for layer in (first, last):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=view.generator)
            nn.init.zeros_(layer.bias)
        return network


def _range(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least value and how far it is to the largest, by channel or feature."""
    over = (0, *range(2, inputs.ndim)) if inputs.ndim > 2 else (0,)
    low, high = inputs.amin(dim=over, keepdim=True), inputs.amax(dim=over, keepdim=True)
    return low, high - low
