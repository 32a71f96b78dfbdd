"""Relatives of the Kullback-Leibler divergence, bounded or mixed: they do not blow up at zeros.

``t`` are the teacher's probabilities, ``q`` the student's. All are divergences, not
cross-entropies: 0 where both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from fedfuse.distill.losses import above_0, divergences, xlogx
from fedfuse.errors import ParameterError
from fedfuse.shapes import Float
from fedfuse.types import Space
from fedfuse.validation import require_flag, require_number, require_one_of

_TINY = 1e-30  # the least of a mixture; what it would be divided by is 0 there
_TIE = 1e-6  # what rounding may take off a cumulative sum of probabilities


def skew_forward(
    log_q: Float[Tensor, "B C"], t: Float[Tensor, "B C"], weight: float
) -> Float[Tensor, " B"]:
    """Return ``KL(t || weight t + (1 - weight) q)``, at most ``-log weight`` (DistiLLM)."""
    mixture = weight * t + (1 - weight) * log_q.exp()
    return _to(t, mixture)


def skew_reverse(
    log_q: Float[Tensor, "B C"], t: Float[Tensor, "B C"], weight: float
) -> Float[Tensor, " B"]:
    """Return ``KL(q || (1 - weight) t + weight q)``, at most ``-log weight`` (DistiLLM)."""
    mixture = (1 - weight) * t + weight * log_q.exp()
    return _from(log_q, mixture)


def jensen_shannon(
    log_q: Float[Tensor, "B C"], t: Float[Tensor, "B C"], weight: float
) -> Float[Tensor, " B"]:
    """Return ``weight KL(t || m) + (1 - weight) KL(q || m)``, ``m = weight t + (1 - weight) q``."""
    mixture = weight * t + (1 - weight) * log_q.exp()
    return weight * _to(t, mixture) + (1 - weight) * _from(log_q, mixture)


def total_variation(
    log_q: Float[Tensor, "B C"],
    t: Float[Tensor, "B C"],
    weight: float,  # noqa: ARG001 - has none
) -> Float[Tensor, " B"]:
    """Return half the sum of absolute differences, from 0 to 1."""
    return (t - log_q.exp()).abs().sum(dim=-1) / 2


def adaptive(
    log_q: Float[Tensor, "B C"], t: Float[Tensor, "B C"], weight: float
) -> Float[Tensor, " B"]:
    """Return ``(g_h KL(t || q) + g_t KL(q || t)) / (g_h + g_t)`` (2404.02657).

    By ascending t, the head are the classes at which the sum of t reaches ``weight``, the tail
    those before; g is the sum of ``|t - q|`` over either. Both g are detached here; in the public
    code they carry a gradient.
    """
    forward, reverse = divergences(log_q, t)
    gap = (t - log_q.detach().exp()).abs()
    ascending, order = t.sort(dim=-1, stable=True)
    head = (ascending.cumsum(dim=-1) >= weight - _TIE).to(t.dtype)
    total = gap.sum(dim=-1)
    of_head = (gap.gather(-1, order) * head).sum(dim=-1)
    agree = total < 1e-12
    share = torch.where(agree, 0.5, of_head / torch.where(agree, 1.0, total))
    return share * forward + (1 - share) * reverse


def _to(t: Float[Tensor, "B C"], mixture: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """Return ``KL(t || mixture)``."""
    return (xlogx(t) - t * mixture.clamp_min(_TINY).log()).sum(dim=-1)


def _from(log_q: Float[Tensor, "B C"], mixture: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """Return ``KL(q || mixture)``."""
    return (log_q.exp() * (log_q - mixture.clamp_min(_TINY).log())).sum(dim=-1)


class Kind(NamedTuple):
    """A divergence, and the weight that it has unless another is given."""

    of: Callable[[Tensor, Tensor, float], Tensor]
    weight: float | None


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "skew_kl": Kind(skew_forward, 0.1),
        "skew_rkl": Kind(skew_reverse, 0.1),
        "js": Kind(jensen_shannon, 0.5),
        "tvd": Kind(total_variation, None),
        "adaptive_kl": Kind(adaptive, 0.5),
    }
)
"""The divergences by the name that a configuration gives them."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """One of the divergences that TAID (arXiv 2501.16937) compares, as in its authors' code.

    Args:
        kind: ``skew_kl``, ``skew_rkl``, ``js``, ``tvd`` (total variation) or ``adaptive_kl``.
        weight: Of the mixture; of ``adaptive_kl`` the sum of t that its tail stays below; None for
            the kind's own. The authors' ``js`` has 0.1.
        temperature: T of the student's softmax; take that of the teacher's probabilities.
        scale_by_t2: Multiply by T squared, as :class:`~fedfuse.distill.KL` does. The bounds of the
            divergences are those without it.
    """

    kind: str
    weight: float | None = None
    temperature: float = 1.0
    scale_by_t2: bool = True
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_one_of("Divergence", "kind", self.kind, KINDS)
        require_number("Divergence", "temperature", self.temperature, above=0)
        require_flag("Divergence", "scale_by_t2", self.scale_by_t2)
        if self.weight is None:
            return
        if KINDS[self.kind].weight is None:
            allowed = f"null: {self.kind} has none"
            raise ParameterError("Divergence", "weight", self.weight, allowed)
        require_number("Divergence", "weight", self.weight, above=0, below=1)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample.

        >>> Divergence("js")(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))
        tensor([0.1017])
        """
        divergence, usual = KINDS[self.kind]
        weight = usual if self.weight is None else self.weight
        log_student = (student_logits / self.temperature).log_softmax(dim=-1)
        scale = self.temperature**2 if self.scale_by_t2 else 1.0
        return scale * above_0(divergence(log_student, targets, weight or 0.0))
