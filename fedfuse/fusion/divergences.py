"""How far apart K class distributions lie, all pairs at once: [K, C] to [K, K].

Row = receiver i, column = source j, ``d_ij = D(e_i || e_j)``. Every function normalises its rows
and works in float64: a divergence of similar clients is a small difference of large sums (the GEMM
form of KL subtracts two entropies), a weight is ``exp(-beta * d)``, and rows that miss 1 by
float32's 1e-7 would already move it. K x C numbers are few, so exactness is free. Results are
float32, never negative and exactly zero on the diagonal.

A plain Python loop over pairs is 100 to 1,000 times slower than the forms below. Each is a
:class:`Form`: what is worked out once per client, and what once per pair, so that any block of
pairs costs one product and :mod:`fedfuse.fusion.topk` never needs them all at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from fedfuse.shapes import Float

EPS = 1e-8
"""Smallest probability a logarithm sees: a label histogram has exact zeros."""

NOISE = 1e-12
"""What counts as no distance: less is the rounding of float32 predictions, not a difference."""

_BLOCK_ELEMENTS = 2**20  # float64 elements of a temporary, 8 MiB

Divergence = Callable[[Tensor], Tensor]


class Form(NamedTuple):
    """One divergence, split into the work per client and the work per pair.

    Args:
        prepare: Exact distributions [K, C] to what represents receivers and sources, each [K, F].
        compare: Some receivers [R, F] and some sources [S, F] to their divergences, float64 [R, S],
            before :func:`finish`, or batches of both; perhaps in a given place [R, S], since fresh
            memory costs more than the product that fills it.
    """

    prepare: Callable[[Tensor], tuple[Tensor, Tensor]]
    compare: Callable[[Tensor, Tensor, Tensor | None], Tensor]


def kl(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return the Kullback-Leibler divergences ``sum_c e_ic (log e_ic - log e_jc)``, nats.

    Logarithms see at least ``EPS``, so disjoint supports give at most ``-log(EPS)``, about 18.4.

    >>> kl(torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    tensor([[0.0000, 0.1438],
            [0.1308, 0.0000]])
    """
    return _all_pairs(FORMS["kl"], epds)


def symmetric_kl(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return ``(KL(e_i || e_j) + KL(e_j || e_i)) / 2``, nats.

    Half the sum (Jeffreys' divergence is the sum itself), so that ``beta`` keeps its scale when
    one changes from ``kl`` to this.
    """
    return _all_pairs(FORMS["symmetric_kl"], epds)


def js(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return the Jensen-Shannon divergences ``H(m) - (H(e_i) + H(e_j)) / 2`` with their mean m.

    In nats: 0 for equal, ``log 2`` for disjoint distributions. The entropy of every pair's mean
    has no GEMM form; blocks of rows keep its [rows, K, C] temporary small.
    """
    return _all_pairs(FORMS["js"], epds)


def l1(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return ``sum_c |e_ic - e_jc|``, 0 for equal to 2 for disjoint distributions."""
    return _all_pairs(FORMS["l1"], epds)


def cosine(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return ``1 - cos(e_i, e_j)``, 0 for equal to 1 for disjoint distributions."""
    return _all_pairs(FORMS["cosine"], epds)


def hellinger(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return ``|sqrt(e_i) - sqrt(e_j)|_2 / sqrt(2)``, 0 for equal to 1 for disjoint.

    Not the GEMM form ``sqrt(1 - sum_c sqrt(e_ic e_jc))``: its square root turns a rounding error
    of 1e-16 between equal clients into a distance of 1e-8.
    """
    return _all_pairs(FORMS["hellinger"], epds)


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


def exact(epds: Float[Tensor, "K C"]) -> Float[Tensor, "K C"]:
    """Return the rows in float64, summing to 1 as closely as float64 can say it."""
    e = epds.double()
    return e / e.sum(dim=1, keepdim=True)


def finish(divergences: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Cut rounding errors off at zero and round to float32.

    Everything up to ``NOISE`` becomes exactly zero: equal clients must tie, whatever order a
    product adds its terms in.
    """
    return torch.threshold(divergences, NOISE, 0).float()


def _all_pairs(form: Form, epds: Float[Tensor, "K C"]) -> Float[Tensor, "K K"]:
    """Return the finished divergences of every pair, with exact zeros on the diagonal."""
    return finish(form.compare(*form.prepare(exact(epds)), None)).fill_diagonal_(0)


def _product(
    receivers: Float[Tensor, "*batch R F"],
    sources: Float[Tensor, "*batch S F"],
    place: Float[Tensor, "R S"] | None,
) -> Float[Tensor, "*batch R S"]:
    """Return the sums of products; whatever is added per client is one more column of each."""
    return torch.matmul(receivers, sources.mT, out=place)


def _prepare_kl(e: Float[Tensor, "K C"]) -> tuple[Float[Tensor, "K F"], Float[Tensor, "K F"]]:
    """Write ``-H(e_i) - e_i . log(e_j)`` as one product."""
    logs = e.clamp_min(EPS).log()
    minus_entropy = (e * logs).sum(dim=1, keepdim=True)
    ones = torch.ones_like(minus_entropy)
    return torch.cat([minus_entropy, -e], dim=1), torch.cat([ones, logs], dim=1)


def _prepare_symmetric_kl(
    e: Float[Tensor, "K C"],
) -> tuple[Float[Tensor, "K F"], Float[Tensor, "K F"]]:
    """Write the mean of both directions as one product."""
    receivers, sources = _prepare_kl(e)
    return torch.cat([receivers, sources], dim=1) / 2, torch.cat([sources, receivers], dim=1)


def _prepare_cosine(e: Float[Tensor, "K C"]) -> tuple[Float[Tensor, "K F"], Float[Tensor, "K F"]]:
    """Write ``1 - u_i . u_j`` with unit vectors u as one product."""
    unit = e / e.norm(dim=1, keepdim=True)
    ones = torch.ones_like(unit[:, :1])
    return torch.cat([ones, -unit], dim=1), torch.cat([ones, unit], dim=1)


def _prepare_js(e: Float[Tensor, "K C"]) -> tuple[Float[Tensor, "K F"], Float[Tensor, "K F"]]:
    """Put half the entropy before half the distribution."""
    halves = torch.cat([_entropy(e).unsqueeze(1), e], dim=1) / 2
    return halves, halves


def _compare_js(
    receivers: Float[Tensor, "*batch R F"],
    sources: Float[Tensor, "*batch S F"],
    place: Float[Tensor, "R S"] | None,  # noqa: ARG001
) -> Float[Tensor, "*batch R S"]:
    """Return ``H(e_i / 2 + e_j / 2) - H(e_i) / 2 - H(e_j) / 2``."""
    rows = max(1, _BLOCK_ELEMENTS // sources.numel())
    parts = [
        _entropy(block[..., None, 1:] + sources[..., None, :, 1:])
        - (block[..., :1] + sources[..., None, :, 0])
        for block in torch.split(receivers, rows, dim=-2)
    ]
    return torch.cat(parts, dim=-2).clamp_(max=math.log(2))


def _compare_l1(
    receivers: Float[Tensor, "*batch R F"],
    sources: Float[Tensor, "*batch S F"],
    place: Float[Tensor, "R S"] | None,  # noqa: ARG001
) -> Float[Tensor, "*batch R S"]:
    return torch.cdist(receivers, sources, p=1.0)


def _prepare_hellinger(
    e: Float[Tensor, "K C"],
) -> tuple[Float[Tensor, "K F"], Float[Tensor, "K F"]]:
    roots = (e / 2).sqrt()
    return roots, roots


def _compare_hellinger(
    receivers: Float[Tensor, "*batch R F"],
    sources: Float[Tensor, "*batch S F"],
    place: Float[Tensor, "R S"] | None,  # noqa: ARG001
) -> Float[Tensor, "*batch R S"]:
    exactly = "donot_use_mm_for_euclid_dist"
    return torch.cdist(receivers, sources, compute_mode=exactly).clamp_(max=1.0)


def _entropy(p: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch"]:
    """Return the entropy in nats, with ``0 log 0 = 0``."""
    return -torch.xlogy(p, p).sum(dim=-1)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "kl": Form(_prepare_kl, _product),
        "js": Form(_prepare_js, _compare_js),
        "symmetric_kl": Form(_prepare_symmetric_kl, _product),
        "l1": Form(lambda e: (e, e), _compare_l1),
        "cosine": Form(_prepare_cosine, _product),
        "hellinger": Form(_prepare_hellinger, _compare_hellinger),
    }
)
"""The same divergences, ready to be taken block by block."""
