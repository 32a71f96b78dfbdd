"""Bound, then perturb: mechanisms with a promise that holds for the whole run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedfuse.errors import require
from fedfuse.privacy import accountant
from fedfuse.privacy.bound import centre, clip_l1, clip_l2
from fedfuse.privacy.draw import draw_laplace, draw_normal
from fedfuse.privacy.protocol import Guarantee
from fedfuse.shapes import Float
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Clip each centred logit vector to a Euclidean norm, add normal noise to each number.

    Args:
        clip: Largest norm; two vectors are at most twice that apart (the sensitivity).
        epsilon: Budget of the whole run, from which the noise follows; None where
            ``noise_multiplier`` is given.
        delta: Of the whole run.
        noise_multiplier: Standard deviation of the noise over the sensitivity; None to let it
            follow from ``epsilon``.
    """

    clip: float = 5.0
    epsilon: float | None = 8.0
    delta: float = 1e-5
    noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        _check("Gaussian", self.clip, self.epsilon, self.noise_multiplier)
        require_number("Gaussian", "delta", self.delta, above=0, below=1)

    def for_queries(self, num_queries: int) -> Gaussian:
        """Return the mechanism whose noise lets ``num_queries`` releases cost ``epsilon``."""
        if self.epsilon is None:
            return self
        multiplier = accountant.gaussian_multiplier(self.epsilon, num_queries, self.delta)
        return replace(self, epsilon=None, noise_multiplier=multiplier)

    def spent(self, queries: list[int]) -> Guarantee:
        """Return what releasing ``queries[r]`` vectors in each round r costs."""
        ready = self.for_queries(sum(queries))
        assert ready.noise_multiplier is not None
        scale = ready.noise_multiplier * 2 * self.clip
        cost = accountant.gaussian_epsilon
        return _spent(self, "gaussian", cost, queries, ready.noise_multiplier, scale)

    def __call__(
        self, logits: Float[Tensor, "m C"], generator: torch.Generator
    ) -> Float[Tensor, "m C"]:
        """Return the clipped and perturbed logits."""
        scale = _calibrated("Gaussian", self.noise_multiplier) * 2 * self.clip
        noise = scale * draw_normal(logits.shape, generator)
        return (clip_l2(centre(logits), self.clip) + noise).to(logits.dtype)


@dataclass(frozen=True, slots=True)
class Laplace:
    """Clip each centred logit vector to a sum of magnitudes, add Laplace noise to each number.

    Args:
        clip: Largest sum of magnitudes; two vectors are at most twice that apart.
        epsilon: Budget of the whole run; None where ``noise_multiplier`` is given.
        delta: Of the whole run; 0 asks for pure differential privacy.
        noise_multiplier: Scale b of the noise over the sensitivity; None to let it follow from
            ``epsilon``.
    """

    clip: float = 15.0
    epsilon: float | None = 8.0
    delta: float = 1e-5
    noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        _check("Laplace", self.clip, self.epsilon, self.noise_multiplier)
        require_number("Laplace", "delta", self.delta, at_least=0, below=1)

    def for_queries(self, num_queries: int) -> Laplace:
        """Return the mechanism whose noise lets ``num_queries`` releases cost ``epsilon``."""
        if self.epsilon is None:
            return self
        multiplier = accountant.laplace_multiplier(self.epsilon, num_queries, self.delta)
        return replace(self, epsilon=None, noise_multiplier=multiplier)

    def spent(self, queries: list[int]) -> Guarantee:
        """Return what releasing ``queries[r]`` vectors in each round r costs."""
        ready = self.for_queries(sum(queries))
        assert ready.noise_multiplier is not None
        deviation = math.sqrt(2) * ready.noise_multiplier * 2 * self.clip
        cost = accountant.laplace_epsilon
        return _spent(self, "laplace", cost, queries, ready.noise_multiplier, deviation)

    def __call__(
        self, logits: Float[Tensor, "m C"], generator: torch.Generator
    ) -> Float[Tensor, "m C"]:
        """Return the clipped and perturbed logits."""
        scale = _calibrated("Laplace", self.noise_multiplier) * 2 * self.clip
        noise = scale * draw_laplace(logits.shape, generator)
        return (clip_l1(centre(logits), self.clip) + noise).to(logits.dtype)


def _check(owner: str, clip: float, epsilon: float | None, multiplier: float | None) -> None:
    require_number(owner, "clip", clip, above=0)
    both = epsilon is not None and multiplier is not None
    neither = epsilon is None and multiplier is None
    require(
        not (both or neither),
        owner,
        "epsilon",
        epsilon,
        "one of epsilon and noise_multiplier, the other null",
    )
    if epsilon is not None:
        require_number(owner, "epsilon", epsilon, above=0, at_most=1e6)
    if multiplier is not None:
        require_number(owner, "noise_multiplier", multiplier, above=0)


def _calibrated(owner: str, multiplier: float | None) -> float:
    require(
        multiplier is not None,
        owner,
        "noise_multiplier",
        multiplier,
        "a number; for_queries derives it from epsilon",
    )
    assert multiplier is not None
    return multiplier


def _spent(
    mechanism: Gaussian | Laplace,
    name: str,
    cost: Callable[[float, int, float], float],
    queries: list[int],
    multiplier: float,
    noise: float,
) -> Guarantee:
    return Guarantee(
        mechanism=name,
        epsilon=cost(multiplier, sum(queries), mechanism.delta),
        delta=mechanism.delta,
        epsilon_round=cost(multiplier, max(queries), mechanism.delta),
        num_queries=sum(queries),
        noise=noise,
        clip=mechanism.clip,
    )
