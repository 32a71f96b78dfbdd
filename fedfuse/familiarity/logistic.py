"""Private or public? The certainty of a logistic regression between the two as a confidence.

FedAUX (Sattler et al., TNNLS 2021), as read in its authors' code, scores public samples by a
regression on features of a shared frozen extractor: divided by their largest norm, a regularisation
of lam = 0.01 that stands beside the *sum* of the losses (so it is lam / n beside their mean), an
intercept that is not regularised, and 1e-8 added to the score. Its negatives are a fifth of the
public set, which is not scored: a regression calls what it has been shown as public public. It also
adds noise to the coefficients for differential privacy and exchanges weights. Our port keeps the
score alone, and without noise it is not private.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fedfuse.errors import KnowledgeError
from fedfuse.familiarity.protocol import SPACES, Scored
from fedfuse.rng import Streams
from fedfuse.shapes import Float, Int
from fedfuse.validation import require_count, require_number, require_one_of

EPS = 1e-8
_MAX_STEPS = 100
_TOLERANCE = 1e-12
_LEAST_CURVATURE = 1e-12  # of the intercept, which nothing regularises


def fit_logistic(
    inputs: Float[Tensor, "n d"], signs: Float[Tensor, " n"], lam: float
) -> tuple[Float[Tensor, " d"], Float[Tensor, ""]]:
    """Return w and b that minimise ``sum log(1 + exp(-s (w.x + b))) + lam |w|**2 / 2``, float64.

    What scikit-learn's ``LogisticRegression(C=1 / lam)`` minimises, by Newton's method, halving
    steps that do not help, in the space that the samples span: w lies in it.

    Args:
        inputs: Samples.
        signs: 1 or -1 each, both of them somewhere.
        lam: Above 0, so that a separable problem has a solution.

    >>> x, s = torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, -1.0])
    >>> lam = 2 / (1 + 2.718281828)  # then w = 1, where the loss falls as fast as lam w**2/2 rises
    >>> w, b = fit_logistic(x, s, lam)
    >>> round(float(w), 6), abs(round(float(b), 6))
    (1.0, 0.0)
    """
    x, signs = inputs.double(), signs.double()
    basis = None
    if x.shape[1] > x.shape[0]:
        basis, triangle = torch.linalg.qr(x.T)
        x = triangle.T
    signed = torch.cat([x, x.new_ones(len(x), 1)], dim=1) * signs.unsqueeze(1)
    ridge = lam * signed.new_ones(signed.shape[1])
    ridge[-1] = 0

    def loss(w: Tensor) -> Tensor:
        return -logsigmoid(signed @ w).sum() + (ridge * w.square()).sum() / 2

    w = signed.new_zeros(signed.shape[1])
    for _ in range(_MAX_STEPS):
        wrong = torch.sigmoid(-(signed @ w))
        gradient = ridge * w - signed.T @ wrong
        if float(gradient.norm()) < _TOLERANCE * len(signed):
            break
        hessian = (signed * (wrong * (1 - wrong)).unsqueeze(1)).T @ signed
        hessian.diagonal().add_(ridge.clamp_min(_LEAST_CURVATURE))
        step = torch.cholesky_solve(gradient.unsqueeze(1), torch.linalg.cholesky(hessian)).squeeze(
            1
        )
        before, scale = loss(w), 1.0
        while float(loss(w - scale * step)) > float(before) and scale > 1e-6:
            scale /= 2
        w = w - scale * step
    return (w[:-1] if basis is None else basis @ w[:-1]), w[-1]


def private_probability(
    private: Float[Tensor, "n d"],
    negatives: Float[Tensor, "m d"],
    asked: Float[Tensor, "P d"],
    lam: float,
) -> Float[Tensor, " P"]:
    """Return P(private | x) of each sample that is asked for, float64, above ``EPS``.

    Args:
        private: A client's own samples.
        negatives: Public samples that the regression learns from, none of them asked for.
        asked: Public samples that are scored.
        lam: See :func:`fit_logistic`.
    """
    both = torch.cat([private, negatives]).double()
    if not bool(both.isfinite().all() and asked.isfinite().all()):
        raise KnowledgeError("A density cannot be estimated from features that are not finite")
    largest = both.norm(dim=1).max().clamp_min(1e-12)
    signs = torch.cat([both.new_ones(len(private)), -both.new_ones(len(negatives))])
    w, b = fit_logistic(both / largest, signs, lam)
    return torch.sigmoid(asked.double() / largest @ w + b) + EPS


@dataclass(frozen=True, slots=True)
class AuxiliaryScore:
    """Confidence from a logistic regression of private against public samples (FedAUX-like).

    Args:
        lam: Regularisation, above 0, beside the sum of the losses.
        negatives: Share of the public samples that the regression learns from. All clients take the
            same ones, and nobody answers for them.
        of: ``inputs``, flattened (once per run), or ``features`` of the client's own model (in
            every round). FedAUX has those of one frozen extractor, which all clients share.
        seed: Of the choice of the negatives.
    """

    lam: float = 0.01
    negatives: float = 0.2
    of: str = "inputs"
    seed: int = 0

    def __post_init__(self) -> None:
        require_number("AuxiliaryScore", "lam", self.lam, above=0)
        require_number("AuxiliaryScore", "negatives", self.negatives, above=0, at_most=0.9)
        require_one_of("AuxiliaryScore", "of", self.of, SPACES)
        require_count("AuxiliaryScore", "seed", self.seed, at_least=0)

    def __call__(
        self,
        private: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],  # noqa: ARG002
        public: Float[Tensor, "P d"],
        generator: torch.Generator,  # noqa: ARG002 - all clients draw alike
    ) -> Scored:
        """Return P(private | x) of each public sample, and which of them have one."""
        size = len(public)
        order = torch.randperm(size, generator=Streams(self.seed).torch("density", "negatives"))
        count = max(round(self.negatives * size), 1)
        asked = torch.ones(size, dtype=torch.bool)
        asked[order[:count]] = False
        scores = torch.zeros(size, dtype=torch.float32)
        scores[asked] = private_probability(
            private, public[~asked], public[asked], self.lam
        ).float()
        return Scored(scores, asked)
