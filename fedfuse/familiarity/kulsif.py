"""KuLSIF: the ratio of two densities, from samples of each, in closed form.

Kernel unconstrained least-squares importance fitting (Kanamori, Suzuki and Sugiyama 2012) fits
``r = p_known / p_auxiliary`` in the space of an RBF kernel k by minimising
``E_aux[r**2] / 2 - E_known[r] + lam |r|**2 / 2``. With n known and m auxiliary samples

    r(x) = sum_j k(x, known_j) / (n lam) + sum_i alpha_i k(x, aux_i),
    (K_aa / m + lam I) alpha = -K_ak 1 / (n m lam).

Selective-FD (Nature Communications 2024) uses it to tell which public samples look like a client's
own. Its published code, as read, multiplies by the matrix where the closed form needs its inverse,
which keeps the ranking nearly but not the scale; here the system is solved.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.shapes import Float

_BLOCK_ELEMENTS = 2**24  # float64 elements of a temporary, 128 MiB
_MEDIAN_SAMPLES = 1000


def rbf(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"], width: float
) -> Float[Tensor, "n m"]:
    """Return ``exp(-|x - y|**2 / (2 width**2))`` for all pairs.

    >>> rbf(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0]]), width=1.0)
    tensor([[1.0000],
            [0.1353]])
    """
    # |x - y|^2 as one GEMM and in place: no square root of what is squared again.
    distances = torch.addmm(second.square().sum(dim=1), first, second.T, alpha=-2)
    distances += first.square().sum(dim=1, keepdim=True)
    return distances.clamp_min_(0).div_(-2 * width**2).exp_()


def median_width(samples: Float[Tensor, "n d"]) -> float:
    """Return the median distance between different samples, a scale for kernel widths.

    From the first 1,000 of them; 1 if all are the same.

    >>> median_width(torch.tensor([[0.0], [1.0], [3.0]]))
    2.0
    """
    distances = torch.nn.functional.pdist(samples[:_MEDIAN_SAMPLES].double())
    positive = distances[distances > 0]
    return float(positive.median()) if len(positive) else 1.0


def kulsif_ratio(
    known: Float[Tensor, "n d"],
    auxiliary: Float[Tensor, "m d"],
    query: Float[Tensor, "P d"],
    width: float,
    lam: float,
) -> Float[Tensor, " P"]:
    """Return the density ratio ``p_known / p_auxiliary`` at the query points, float64.

    Args:
        known: Samples of the numerator, a client's own.
        auxiliary: Samples of the denominator, such as :func:`uniform_samples`.
        query: Where to evaluate it. One matrix solve serves all of them.
        width: Of the RBF kernel.
        lam: Regularisation, above 0; ``m ** -0.5`` in Selective-FD's code.

    Raises:
        KnowledgeError: If a sample is not finite or there is none.
    """
    known, auxiliary, query = known.double(), auxiliary.double(), query.double()
    for name, samples in (("known", known), ("auxiliary", auxiliary), ("query", query)):
        if not len(samples) or not bool(samples.isfinite().all()):
            raise KnowledgeError(
                f"The density ratio cannot use its {name} samples",
                got=f"{len(samples)} samples, {int((~samples.isfinite()).sum())} values not finite",
                allowed="at least one sample, all finite",
            )
    n, m = len(known), len(auxiliary)
    system = rbf(auxiliary, auxiliary, width) / m
    system.diagonal().add_(lam)
    right = rbf(auxiliary, known, width).sum(dim=1, keepdim=True) / (-n * m * lam)
    alpha = torch.cholesky_solve(right, torch.linalg.cholesky(system)).squeeze(1)
    rows = max(1, _BLOCK_ELEMENTS // max(n, m))
    ratios = [
        rbf(block, known, width).sum(dim=1) / (n * lam) + rbf(block, auxiliary, width) @ alpha
        for block in torch.split(query, rows)
    ]
    # The fit is unconstrained, a ratio of densities is not.
    return torch.cat(ratios).clamp_min(0)


def uniform_samples(
    like: Float[Tensor, "n d"], count: int, generator: torch.Generator
) -> Float[Tensor, "count d"]:
    """Return uniform points of the box that ``like`` fills, float64."""
    low, high = like.double().amin(dim=0), like.double().amax(dim=0)
    points = torch.rand(count, like.shape[1], generator=generator, dtype=torch.float64)
    return low + (high - low) * points.to(like.device)
