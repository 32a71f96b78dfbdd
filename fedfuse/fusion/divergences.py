"""How far apart K class distributions lie, all pairs at once: [K, C] to [K, K].

Row = receiver i, column = source j, ``d_ij = D(e_i || e_j)``. Every function normalises its rows
and works in float64: a divergence of similar clients is a small difference of large sums (the GEMM
form of KL subtracts two entropies), a weight is ``exp(-beta * d)``, and rows that miss 1 by
float32's 1e-7 would already move it. K x C numbers are few, so exactness is free. Results are
float32, never negative and exactly zero on the diagonal.

A plain Python loop over pairs is 100 to 1,000 times slower than the forms below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from fedfuse.shapes import Float

EPS = 1e-8
"""Smallest probability a logarithm sees: a label histogram has exact zeros."""

_BLOCK_ELEMENTS = 2**24  # float64 elements of a temporary, 128 MiB

Divergence = Callable[[Tensor], Tensor]


def kl(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return the Kullback-Leibler divergences ``sum_c e_ic (log e_ic - log e_jc)``, nats.

    Logarithms see at least ``EPS``, so disjoint supports give at most ``-log(EPS)``, about 18.4.

    >>> kl(torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    tensor([[0.0000, 0.1438],
            [0.1308, 0.0000]])
    """
    return _finish(_kl(_exact(epds)))


def symmetric_kl(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return ``(KL(e_i || e_j) + KL(e_j || e_i)) / 2``, nats.

    Half the sum (Jeffreys' divergence is the sum itself), so that ``beta`` keeps its scale when
    one changes from ``kl`` to this.
    """
    divergences = _kl(_exact(epds))
    return _finish((divergences + divergences.T) / 2)


def js(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return the Jensen-Shannon divergences ``H(m) - (H(e_i) + H(e_j)) / 2`` with their mean m.

    In nats: 0 for equal, ``log 2`` for disjoint distributions. The entropy of every pair's mean
    has no GEMM form; blocks of rows keep its [rows, K, C] temporary small.
    """
    e = _exact(epds)
    entropies = _entropy(e)
    rows = max(1, _BLOCK_ELEMENTS // e.numel())
    divergences = [
        _entropy((block.unsqueeze(1) + e) / 2) - (own.unsqueeze(1) + entropies) / 2
        for block, own in zip(torch.split(e, rows), torch.split(entropies, rows), strict=True)
    ]
    return _finish(torch.cat(divergences).clamp(max=math.log(2)))


def l1(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return ``sum_c |e_ic - e_jc|``, 0 for equal to 2 for disjoint distributions."""
    e = _exact(epds)
    return _finish(torch.cdist(e, e, p=1.0))


def cosine(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return ``1 - cos(e_i, e_j)``, 0 for equal to 1 for disjoint distributions."""
    e = _exact(epds)
    unit = e / e.norm(dim=1, keepdim=True)
    return _finish(1 - unit @ unit.T)


def hellinger(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return ``|sqrt(e_i) - sqrt(e_j)|_2 / sqrt(2)``, 0 for equal to 1 for disjoint.

    Not the GEMM form ``sqrt(1 - sum_c sqrt(e_ic e_jc))``: its square root turns a rounding error
    of 1e-16 between equal clients into a distance of 1e-8.
    """
    roots = _exact(epds).sqrt()
    distances = torch.cdist(roots, roots, compute_mode="donot_use_mm_for_euclid_dist")
    return _finish((distances / math.sqrt(2)).clamp(max=1.0))


DIVERGENCES: Mapping[str, Divergence] = MappingProxyType(
    {
        "kl": kl,
        "js": js,
        "symmetric_kl": symmetric_kl,
        "l1": l1,
        "cosine": cosine,
        "hellinger": hellinger,
    }
)
"""The divergences by the name that a configuration gives them."""


def _exact(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K C"]:
    """Return the rows in float64, summing to 1 as closely as float64 can say it."""
    e = epds.double()
    return e / e.sum(dim=1, keepdim=True)


def _kl(e: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return the divergences as one GEMM, before rounding errors are cut off."""
    logs = e.clamp_min(EPS).log()
    return (e * logs).sum(dim=1, keepdim=True) - e @ logs.T


def _entropy(p: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch"]:
    """Return the entropy in nats, with ``0 log 0 = 0``."""
    return -torch.xlogy(p, p).sum(dim=-1)


def _finish(divergences: Float[Tensor, "K K"]) -> Float[Tensor, "K K"]:
    """Cut rounding errors off at zero, put exact zeros on the diagonal, round to float32."""
    return divergences.clamp_min(0).fill_diagonal_(0).float()
