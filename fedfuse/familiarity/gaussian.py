"""A Gaussian per class on features: how likely a sample is under a client's own data.

UWA (Kovalchuk et al., arXiv 2509.15147) weighs clients per sample by density-based uncertainty; its
formula could not be read, so this is our reading: class-conditional Gaussians with one covariance,
the log-density standardised on held-out private samples, because the raw densities of two
architectures are not on one scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.errors import KnowledgeError
from fedfuse.familiarity.hold_out import hold_out, ranks, z_scores
from fedfuse.familiarity.protocol import SPACES
from fedfuse.shapes import Float, Int
from fedfuse.validation import require_number, require_one_of

_FLOOR = 1e-6


class ClassGaussians(NamedTuple):
    """Gaussians of one covariance, one per class that is there.

    Args:
        means: float64 [c, d].
        log_shares: float64 [c], logarithm of each class's share of the samples.
        factor: float64 [d, d], the lower Cholesky factor of the covariance.
    """

    means: Float[Tensor, "c d"]
    log_shares: Float[Tensor, " c"]
    factor: Float[Tensor, "d d"]


def fit(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], shrinkage: float
) -> ClassGaussians:
    """Return the Gaussians of the classes in ``labels``.

    The covariance is that of the distances from the class means, divided by n, and shrunk:
    ``(1 - s) S + s (trace(S) / d) I``. A client with fewer samples than features has no other way.
    A millionth of the mean variance is added, so that constant features do no harm.

    >>> x = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
    >>> means, log_shares, factor = fit(x, torch.tensor([0, 0, 1, 1]), shrinkage=0.0)
    >>> means.flatten().tolist(), log_shares.exp().tolist(), round(factor.item(), 3)
    ([1.0, 11.0], [0.5, 0.5], 1.0)
    """
    x = features.double()
    if not bool(x.isfinite().all()):
        raise KnowledgeError("A density cannot be estimated from features that are not finite")
    everyone = one_hot(labels).double()
    groups = everyone[:, everyone.any(dim=0)]
    counts = groups.sum(dim=0)
    means = (groups.T @ x) / counts.unsqueeze(1)
    centred = x - groups @ means
    covariance = centred.T @ centred / len(x)
    level = covariance.diagonal().mean()
    covariance = (1 - shrinkage) * covariance
    covariance.diagonal().add_(shrinkage * level + _FLOOR * torch.where(level > 0, level, 1))
    factor = torch.linalg.cholesky(covariance)
    return ClassGaussians(means, (counts / len(x)).log(), factor)


def log_density(model: ClassGaussians, points: Float[Tensor, "P d"]) -> Float[Tensor, " P"]:
    """Return ``log sum_c share_c N(x; mean_c, S)``, float64.

    >>> standard = ClassGaussians(
    ...     torch.zeros(1, 1).double(), torch.zeros(1).double(), torch.eye(1).double()
    ... )
    >>> log_density(standard, torch.tensor([[0.0], [1.0]]))  # -log(2 pi) / 2, and 1/2 less
    tensor([-0.9189, -1.4189], dtype=torch.float64)
    """

    def whiten(x: Tensor) -> Tensor:
        white: Tensor = torch.linalg.solve_triangular(model.factor, x.T, upper=False)
        return white.T

    distances = torch.cdist(whiten(points.double()), whiten(model.means)).square()
    size = model.means.shape[1]
    constant = model.factor.diagonal().log().sum() + size * math.log(2 * math.pi) / 2
    return (model.log_shares - distances / 2).logsumexp(dim=1) - constant


@dataclass(frozen=True, slots=True)
class GaussianDensity:
    """Confidence from a Gaussian per class (UWA-style, our reading).

    Args:
        standardise: ``zscore``, in standard deviations of the held-out private log-densities,
            which far samples leave without bound; or ``rank``, their empirical distribution
            function, within (0, 1).
        shrinkage: Of the covariance toward a multiple of the identity, 0 to 1.
        held_out: Share of the private samples that sets the scale.
        of: ``features``, what goes into the last layer of the client's own model (in every round),
            or ``inputs``, flattened (once per run).
    """

    standardise: str = "zscore"
    shrinkage: float = 0.1
    held_out: float = 0.25
    of: str = "features"

    def __post_init__(self) -> None:
        require_one_of("GaussianDensity", "standardise", self.standardise, ("zscore", "rank"))
        require_number("GaussianDensity", "shrinkage", self.shrinkage, at_least=0, at_most=1)
        require_one_of("GaussianDensity", "of", self.of, SPACES)
        require_number("GaussianDensity", "held_out", self.held_out, above=0, at_most=0.9)

    @property
    def gives(self) -> str:
        """What it says: ranks are from 0 to 1, standardised log-densities may be below."""
        return "confidence" if self.standardise == "rank" else "log_density"

    def __call__(
        self,
        private: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        public: Float[Tensor, "P d"],
        generator: torch.Generator,
    ) -> Float[Tensor, " P"]:
        """Return the standardised log-density of each public sample."""
        learned, held = hold_out(len(private), self.held_out, generator)
        model = fit(private[learned], labels[learned], self.shrinkage)
        scores = log_density(model, public)
        own = log_density(model, private[held])
        standard = z_scores if self.standardise == "zscore" else ranks
        return standard(scores, own).float()
