"""What a client minimises on its private data: logits [B, C] and labels [B] to losses [B]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fedfuse.errors import ParameterError
from fedfuse.prior import FLOOR
from fedfuse.shapes import Float, Int
from fedfuse.train.facts import Facts, wants
from fedfuse.validation import require_number


def cross_entropy(logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the cross-entropy of each sample, nats."""
    return F.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Cross-entropy: the model learns its client's class shares with everything else."""

    def __call__(
        self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        return cross_entropy(logits, labels)


@dataclass(frozen=True, slots=True)
class BalancedSoftmax:
    """Cross-entropy of ``z + tau log pi``: what the model learns, z, is free of the prior.

    Ren et al. 2020, arXiv 2007.10740; on clients with skewed labels as in KCFU, arXiv 2211.13579.
    With equal counts, or with tau = 0, it is the cross-entropy.

    Args:
        tau: Strength of the prior.
        floor: Samples that an absent class counts for.
    """

    tau: float = 1.0
    floor: float = FLOOR
    wants: ClassVar[frozenset[str]] = frozenset({"prior"})

    def __post_init__(self) -> None:
        require_number("BalancedSoftmax", "tau", self.tau, at_least=0)
        require_number("BalancedSoftmax", "floor", self.floor, above=0)

    def __call__(
        self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"], facts: Facts
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample.

        >>> prior = torch.tensor([[0.75, 0.25]]).log()
        >>> BalancedSoftmax()(torch.zeros(1, 2), torch.tensor([1]), Facts(prior=prior))
        tensor([1.3863])
        """
        assert facts.prior is not None
        if self.tau == 0:
            return cross_entropy(logits, labels)
        return cross_entropy(torch.add(logits, facts.prior, alpha=self.tau), labels)


@dataclass(frozen=True, slots=True)
class SymmetricCrossEntropy:
    """``alpha CE + beta RCE``: cross-entropy both ways, which a wrong label misleads less.

    Reverse cross-entropy ``-sum_c p_c log y_c`` with ``log 0 = log floor`` is
    ``-log(floor) (1 - p_y)``, bounded however wrong the label (Wang et al. 2019, arXiv 1908.06112;
    with these defaults the local loss of RHFL, CVPR 2022).

    Args:
        alpha: Weight of the cross-entropy.
        beta: Weight of the reverse one.
        floor: What a label says of the other classes instead of 0.
    """

    alpha: float = 0.1
    beta: float = 1.0
    floor: float = 1e-4

    def __post_init__(self) -> None:
        require_number("SymmetricCrossEntropy", "alpha", self.alpha, at_least=0)
        require_number("SymmetricCrossEntropy", "beta", self.beta, at_least=0)
        require_number("SymmetricCrossEntropy", "floor", self.floor, above=0, at_most=1)
        if not (self.alpha or self.beta):
            allowed = "a weight above 0, here or in 'beta'"
            raise ParameterError("SymmetricCrossEntropy", "alpha", self.alpha, allowed)

    def __call__(
        self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample.

        >>> logits = torch.tensor([[3.0, 1.0]]).log()
        >>> SymmetricCrossEntropy(floor=0.1)(logits, torch.tensor([0]))  # 0.1 log 4/3 + log(10) / 4
        tensor([0.6044])
        """
        forward = cross_entropy(logits, labels)
        return self.alpha * forward - self.beta * math.log(self.floor) * (1 - (-forward).exp())


def trained_tau(loss: object) -> float:
    """Return how much of the prior a loss has kept out of the logits: 0 for all but its kind.

    >>> trained_tau(BalancedSoftmax(tau=0.5)), trained_tau(CrossEntropy())
    (0.5, 0.0)
    """
    return float(getattr(loss, "tau", 1.0)) if "prior" in wants(loss) else 0.0
