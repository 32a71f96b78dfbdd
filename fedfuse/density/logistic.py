"""Private or public? The certainty of a logistic regression between the two as a confidence.

FedAUX (Sattler et al., TNNLS 2021), as read in its authors' code, scores public samples by a
regression on features of a shared frozen extractor, with a regularisation of 0.01 and 1e-8 added;
it also adds noise to the coefficients for differential privacy and exchanges weights. Our port
keeps the score alone, and without noise it is not private.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fedfuse.density.protocol import SPACES
from fedfuse.errors import KnowledgeError
from fedfuse.hyperparameters import require_number, require_one_of
from fedfuse.shapes import Float, Int

EPS = 1e-8
_MAX_STEPS = 100
_TOLERANCE = 1e-10


def fit_logistic(
    inputs: Float[Tensor, "n d"], signs: Float[Tensor, " n"], lam: float
) -> Float[Tensor, " d"]:
    """Return the w that minimises ``mean log(1 + exp(-s w.x)) + lam |w|**2 / 2``, float64.

    Newton's method, halving steps that do not help. A column of ones makes a bias, regularised
    like the rest.

    Args:
        inputs: Samples.
        signs: 1 or -1 each.
        lam: Above 0, so that a separable problem has a solution.

    >>> x, s = torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, -1.0])
    >>> lam = 1 / (1 + 2.718281828)  # then w = 1, where the loss falls as fast as lam w**2/2 rises
    >>> round(float(fit_logistic(x, s, lam)), 6)
    1.0
    """
    signed = inputs.double() * signs.double().unsqueeze(1)

    def loss(w: Tensor) -> Tensor:
        return -logsigmoid(signed @ w).mean() + lam * w.square().sum() / 2

    w = signed.new_zeros(signed.shape[1])
    for _ in range(_MAX_STEPS):
        wrong = torch.sigmoid(-(signed @ w))
        gradient = lam * w - signed.T @ wrong / len(signed)
        if float(gradient.norm()) < _TOLERANCE:
            break
        curvature = wrong * (1 - wrong) / len(signed)
        hessian = (signed * curvature.unsqueeze(1)).T @ signed
        hessian.diagonal().add_(lam)
        step = torch.cholesky_solve(gradient.unsqueeze(1), torch.linalg.cholesky(hessian)).squeeze(
            1
        )
        before, scale = loss(w), 1.0
        while float(loss(w - scale * step)) > float(before) and scale > 1e-6:
            scale /= 2
        w = w - scale * step
    return w


def private_probability(
    private: Float[Tensor, "n d"], public: Float[Tensor, "P d"], lam: float
) -> Float[Tensor, " P"]:
    """Return P(private | x) of each public sample, float64, at least ``EPS``.

    Samples are centred and divided by their largest norm first, so that ``lam`` means the same for
    every architecture.
    """
    both = torch.cat([private, public]).double()
    if not bool(both.isfinite().all()):
        raise KnowledgeError("A density cannot be estimated from features that are not finite")
    both = both - both.mean(dim=0)
    both = both / both.norm(dim=1).max().clamp_min(1e-12)
    both = torch.cat([both, both.new_ones(len(both), 1)], dim=1)
    signs = torch.cat([both.new_ones(len(private)), -both.new_ones(len(public))])
    w = fit_logistic(both, signs, lam)
    return torch.sigmoid(both[len(private) :] @ w) + EPS


@dataclass(frozen=True, slots=True)
class AuxiliaryScore:
    """Confidence from a logistic regression of private against public samples (FedAUX-like).

    Args:
        lam: Regularisation, above 0.
        of: ``inputs``, flattened (once per run), or ``features`` of the client's own model (in
            every round). FedAUX has those of one frozen extractor, which all clients share.
    """

    lam: float = 0.01
    of: str = "inputs"

    def __post_init__(self) -> None:
        require_number("AuxiliaryScore", "lam", self.lam, above=0)
        require_one_of("AuxiliaryScore", "of", self.of, SPACES)

    def __call__(
        self,
        private: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],  # noqa: ARG002
        public: Float[Tensor, "P d"],
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, " P"]:
        """Return P(private | x) of each public sample."""
        return private_probability(private, public, self.lam).float()
