"""Evidence of many sources fused by Dempster's or Yager's rule (MEFN, HEA): belief and ignorance.

Each source gives belief to classes and keeps the rest as "do not know"; unreliable ones are
discounted. Belief, uncertainty and the rule for two sources are those of Trusted Multi-View
Classification (arXiv 2102.02051, code), fusing is the idea of MEFN (arXiv 2406.18327) and the
discount that of HEA (arXiv 2502.14631). All sources at once, centred logits, and fusion weights as
reliabilities are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from fedfuse.fusion.blocks import spans
from fedfuse.protocols import Fused
from fedfuse.shapes import Float
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_flag, require_number, require_one_of

_MOST_EVIDENCE = 1e30
"""What more evidence counts as. It leaves the product of ``_GROUP`` ignorances above 0."""
_GROUP = 8  # sources that are multiplied before a logarithm is taken
_BLOCK_ELEMENTS = 2**17  # of a float64 temporary, 1 MiB: a few of them stay in a core's caches
_CONFLICT = 0.9
"""Conflict above which ``combine=auto`` takes Yager's rule."""

EVIDENCE: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"softplus": softplus, "relu": relu, "exp": lambda logits: logits.clamp_max(10).exp()}
)
"""Logits to evidence from 0 up, by the name that a configuration gives it."""

COMBINE = ("auto", "dempster", "yager")
DISCOUNT = ("relative", "none")


class Opinion(NamedTuple):
    """What is believed of a sample: ``belief.sum(-1) + uncertainty`` is 1.

    Args:
        belief: [..., C], from 0 to 1.
        uncertainty: [...], what is left for "do not know".
        conflict: [...], how much of the sources' beliefs exclude each other.
    """

    belief: Tensor
    uncertainty: Tensor
    conflict: Tensor


def opinion(evidence: Float[Tensor, "*batch C"]) -> Opinion:
    """Return ``b = e / S`` and ``u = C / S``, where ``S = sum(e) + C``.

    >>> belief, uncertainty, _ = opinion(torch.tensor([3.0, 0.0]))
    >>> belief, uncertainty
    (tensor([0.6000, 0.0000]), tensor(0.4000))
    """
    strength = evidence.sum(dim=-1) + evidence.shape[-1]
    unsure = evidence.shape[-1] / strength
    return Opinion(evidence / strength.unsqueeze(-1), unsure, torch.zeros_like(unsure))


def combined(sources: Opinion, reliability: Float[Tensor, "R J"], combine: str = "auto") -> Opinion:
    """Return what each receiver believes once its sources' opinions are combined, all at once.

    With ``b <- rho b`` and ``u <- 1 - rho + rho u`` the commonalities multiply: ``Q_k =
    prod_j (b_jk + u_j)``, ``U = prod_j u_j``, ``m = Q - U``; with ``Z = sum(m) + U`` the conflict
    is ``1 - Z``.

    Args:
        sources: Beliefs [J, p, C] and uncertainties [J, p]; one of belief 0 and uncertainty 1 says
            nothing, and changes nothing.
        reliability: ``rho_ij`` from 0 to 1.
        combine: ``dempster``: ``b = m / Z``, ``u = U / Z``, and where certain sources contradict
            each other (Z = 0) the mean of their opinions, weighed by reliability. ``yager``: ``b =
            m``, and conflict is not knowing, ``u = 1 - sum(m)``. ``auto``: Yager's where the
            conflict is above 0.9, Dempster's elsewhere.

    >>> two = opinion(torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]]).double())
    >>> made = combined(two, torch.ones(1, 2).double(), "dempster")
    >>> made.belief.float(), made.uncertainty.float(), made.conflict.float()
    (tensor([[[0.5000, 0.1667]]]), tensor([[0.3333]]), tensor([[0.2000]]))
    """
    ignorance = sources.uncertainty.unsqueeze(-1)
    logs = _log_products(torch.cat([sources.belief + ignorance, ignorance], -1), reliability)
    # In units of the largest, because of many sources each product is below what a float can hold.
    top = logs.amax(dim=-1, keepdim=True)
    top = torch.where(top.isfinite(), top, 0)
    common, none = (logs - top).exp().tensor_split([logs.shape[-1] - 1], dim=-1)
    mass = (common - none).clamp_min(0)
    total = mass.sum(dim=-1, keepdim=True) + none
    scale = top.exp()
    conflict = (1 - scale * total).clamp(0, 1)
    yager = conflict > _CONFLICT
    if combine != "auto":
        yager = torch.full_like(yager, combine == "yager")
    found, over = scale * mass, torch.where(total > 0, total, 1)
    belief = torch.where(yager, found, mass / over)
    rest = (1 - found.sum(dim=-1, keepdim=True)).clamp_min(0)
    unsure = torch.where(yager, rest, none / over)
    if bool((opposed := (total == 0) & ~yager).any()):
        share = reliability / reliability.sum(dim=1, keepdim=True)
        mean = (share @ sources.belief.flatten(1)).view_as(belief)
        belief = torch.where(opposed, mean, belief)
        unsure = torch.where(opposed, 1 - mean.sum(dim=-1, keepdim=True), unsure)
    return Opinion(belief, unsure.squeeze(-1), conflict.squeeze(-1))


def _log_products(
    values: Float[Tensor, "J p D"], reliability: Float[Tensor, "R J"]
) -> Float[Tensor, "R p D"]:
    """Return ``sum_j log(1 - rho_ij + rho_ij v_j)``: one GEMM if each source counts or does not.

    Otherwise a pass over the sources, of those that count with anybody, for all receivers.
    """
    whole = bool(((reliability == 0) | (reliability == 1)).all())
    if whole and bool((values > 0).all()):
        return (reliability @ values.log().flatten(1)).view(-1, *values.shape[1:])
    most = int((reliability > 0).sum(dim=1).max())
    shares, sources = reliability.topk(most, dim=1)
    logs = values.new_zeros(len(reliability), *values.shape[1:])
    for group in spans(most, _GROUP):
        product = torch.ones_like(logs)
        for share, source in zip(shares[:, group].T, sources[:, group].T, strict=True):
            rho = share.view(-1, 1, 1)
            product *= torch.addcmul(1 - rho, rho, values[source])
        logs += product.log_()
    return logs


@dataclass(frozen=True, slots=True)
class Dempster:
    """Combine what each receiver's sources believe; the target is ``belief + uncertainty / C``.

    Sources that have learned from each other are not independent, as the rule takes them to be:
    beliefs pile up from round to round. The round's metrics show it: ``uncertainty``, the mean of
    what is left for "do not know" after combining, and the mean ``conflict``.

    Args:
        evidence: ``softplus``, ``relu`` or ``exp`` (of at most 10) of the logits.
        centre: Take off each prediction's mean logit before: cross-entropy leaves logits free up to
            a constant, and evidence does not (ours).
        scale: Times which logits are evidence.
        discount: ``relative``: a source's reliability is its weight over the receiver's largest.
            ``none``: every source with a weight counts whole.
        combine: See :func:`combined`. With many sources their conflict is near 1, so that ``auto``
            is Yager's rule, whose targets are near uniform then.
        weigh_by_belief: Whether a target counts ``1 - uncertainty`` in distillation.
    """

    evidence: str = "softplus"
    centre: bool = True
    scale: float = 1.0
    discount: str = "relative"
    combine: str = "auto"
    weigh_by_belief: bool = False
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_one_of("Dempster", "evidence", self.evidence, EVIDENCE)
        require_flag("Dempster", "centre", self.centre)
        require_number("Dempster", "scale", self.scale, above=0)
        require_one_of("Dempster", "discount", self.discount, DISCOUNT)
        require_one_of("Dempster", "combine", self.combine, COMBINE)
        require_flag("Dempster", "weigh_by_belief", self.weigh_by_belief)

    def __call__(self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]) -> Fused:
        """Return one target per receiver; uniform where none of its sources answered."""
        exact = weights.double()
        counts = (exact > 0).double()
        reliability = counts if self.discount == "none" else exact / exact.amax(1, keepdim=True)
        rows, receiver = torch.unique(reliability, dim=0, return_inverse=True)
        num_classes = bank.num_classes
        targets, unsure, conflict = [], [], []
        for part in spans(bank.logits.shape[1], _BLOCK_ELEMENTS // (len(rows) * num_classes)):
            made = combined(self._opinions(bank, part), rows, self.combine)
            fused = made.belief + made.uncertainty.unsqueeze(-1) / num_classes
            targets.append(fused.to(bank.logits.dtype))
            unsure.append(made.uncertainty)
            conflict.append(made.conflict)
        left = torch.cat(unsure, dim=1)[receiver]
        told = {
            "uncertainty": float(left.mean()),
            "conflict": float(torch.cat(conflict, dim=1)[receiver].mean()),
        }
        counted = (1 - left).float() if self.weigh_by_belief else None
        return Fused(torch.cat(targets, dim=1)[receiver], counted, told)

    def _opinions(self, bank: KnowledgeBank, part: slice) -> Opinion:
        """Return the opinions of all sources on some samples; who did not answer has none."""
        logits = bank.logits[:, part].double()
        if self.centre:
            logits = logits - logits.mean(dim=-1, keepdim=True)
        evidence = EVIDENCE[self.evidence](self.scale * logits).clamp_max(_MOST_EVIDENCE)
        made = opinion(evidence)
        if bank.mask is None:
            return made
        known = bank.mask[:, part]
        # Not a product with the mask: an answer that was never given may hold NaN.
        belief = torch.where(known.unsqueeze(-1), made.belief, 0)
        return made._replace(belief=belief, uncertainty=torch.where(known, made.uncertainty, 1))
