"""Add what an expert has learned to the receiver's logits, as far as it has moved the expert.

Dynamic logits fusion (arXiv 2406.15480, full text; its repository is empty). What an expert has
learned is the difference of its logits to a common reference; the paper's is the model that the
expert began from. Among clients the reference is the mean of what they sent, and several experts
are fitted coordinate by coordinate: ours (:mod:`fedfuse.fusion.experts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.declarations import FEW_CLIENTS
from fedfuse.errors import KnowledgeError
from fedfuse.fusion.blocks import spans
from fedfuse.fusion.experts import best_alone, experts_of, fitted, nearest, prediction
from fedfuse.protocols import Fused
from fedfuse.shapes import Bool, Float
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_count, require_flag, require_number, require_one_of

REFERENCE = ("mean", "previous")
_BLOCK_ELEMENTS = 2**16  # of a float64 temporary, half a MiB: a few of them stay in a core's caches


@dataclass(slots=True, eq=False)
class LogitArithmetic:
    """Add to each receiver's logits what its nearest sources have learned beyond a reference.

    With the step ``D_j = z_j - z_ref`` of a source the target is ``z_i + sum_j alpha_j D_j``; on
    every sample the alphas are those of a grid that move the receiver's prediction most like the
    steps moved the experts' (:func:`~fedfuse.fusion.experts.best_multiple`). A receiver that did
    not answer a sample starts from the reference; one without an expert gets its own logits back.
    The round's metric ``alpha`` is the mean of the sum of the alphas, over the targets that have an
    expert.

    Args:
        max: Largest alpha of the grid, which begins at 0.
        points: Of the grid.
        experts: How many sources, those of the largest weights; of equal weights, they are one.
        per_sample_best: Of the experts take only the one that fits best, on every sample.
        reference: ``mean``: of what all clients sent for the sample in this round. ``previous``: in
            the one before (of this one for samples that nobody answered then); that needs the same
            samples in every round.
        many_experts: Allow more than 3 experts with more than 32 clients, which is slow.
    """

    max: float = 2.0
    points: int = 21
    experts: int = 1
    per_sample_best: bool = False
    reference: str = "mean"
    many_experts: bool = False
    space: ClassVar[Space] = Space.LOGITS
    _mean: Tensor = field(init=False, repr=False, default_factory=lambda: torch.zeros(0, 0))
    _known: Tensor = field(init=False, repr=False, default_factory=lambda: torch.zeros(0) > 0)

    def __post_init__(self) -> None:
        require_number("LogitArithmetic", "max", self.max, above=0)
        require_count("LogitArithmetic", "points", self.points, at_least=2)
        require_count("LogitArithmetic", "experts", self.experts)
        require_flag("LogitArithmetic", "per_sample_best", self.per_sample_best)
        require_one_of("LogitArithmetic", "reference", self.reference, REFERENCE)
        require_flag("LogitArithmetic", "many_experts", self.many_experts)

    @property
    def needs_few_clients(self) -> bool:
        """Whether so many experts are tried that it takes long with many clients."""
        return self.experts > 3 and not self.many_experts

    @property
    def needs_fixed_public_set(self) -> bool:
        """Whether it compares with what was said of the same samples a round ago."""
        return self.reference == "previous"

    def __call__(self, bank: KnowledgeBank, weights: Float[Tensor, "K K"]) -> Fused:
        """Return one target per receiver.

        Raises:
            KnowledgeError: If there are too many clients for so many experts, or the samples are
                not those of the round before.
        """
        if self.needs_few_clients and bank.num_clients > FEW_CLIENTS:
            raise KnowledgeError(
                f"The rule LogitArithmetic is slow with {self.experts} experts of so many clients",
                got=f"{bank.num_clients} clients",
                allowed=f"at most {FEW_CLIENTS}",
                next_step="Set rule.experts=3, or rule.many_experts=true to wait for it.",
            )
        num_clients, num_samples, num_classes = bank.logits.shape
        others = weights.double().clone().fill_diagonal_(0)
        former, done = self._former(bank), []
        for part in spans(num_samples, _BLOCK_ELEMENTS // (num_clients * num_classes)):
            mask = None if bank.mask is None else bank.mask[:, part]
            before = None if former is None else (former[0][part], former[1][part])
            done.append(self._block(bank.logits[:, part].double(), mask, others, before))
        fused, means, alphas, counts = zip(*done, strict=True)
        if self.needs_fixed_public_set:
            answered = torch.ones(num_samples) > 0 if bank.mask is None else bank.mask.any(dim=0)
            self._mean, self._known = torch.cat(means).cpu(), answered.cpu()
        limits = torch.finfo(bank.logits.dtype)
        targets = torch.cat(fused, dim=1).clamp(limits.min, limits.max).to(bank.logits.dtype)
        return Fused(targets, metrics={"alpha": sum(alphas) / max(1, sum(counts))})

    def _block(
        self,
        logits: Float[Tensor, "K p C"],
        mask: Bool[Tensor, "K p"] | None,
        weights: Float[Tensor, "K K"],
        former: tuple[Tensor, Tensor] | None,
    ) -> tuple[Float[Tensor, "K p C"], Float[Tensor, "p C"], float, int]:
        """Return some samples' targets and means, and the sum and the number of their alphas."""
        pairs, start = weights.unsqueeze(0), logits
        if mask is None:
            reference = mean = logits.mean(dim=0)
        else:
            # Not a product with the mask: an answer that was never given may hold NaN.
            logits = torch.where(mask.unsqueeze(-1), logits, 0)
            pairs = pairs * mask.T.unsqueeze(1)
            reference = mean = logits.sum(dim=0) / mask.sum(dim=0).clamp_min(1).unsqueeze(-1)
        if former is not None:
            reference = torch.where(former[1].unsqueeze(-1), former[0], mean)
        if mask is not None:
            start = torch.where(mask.unsqueeze(-1), logits, reference)
        steps, there = nearest(logits, pairs, reference, self.experts)
        own = prediction(start.permute(2, 0, 1).contiguous())
        experts = experts_of(prediction(reference.T.unsqueeze(1)), steps, there)
        grid = torch.linspace(0, self.max, self.points, dtype=torch.float64).tolist()
        alphas = (best_alone if self.per_sample_best else fitted)(own, experts, grid)
        moved = own.logits + (alphas.unsqueeze(1) * steps).sum(dim=0)
        return moved.permute(1, 2, 0), mean, float(alphas.sum()), int(there[0].sum())

    def _former(self, bank: KnowledgeBank) -> tuple[Tensor, Tensor] | None:
        """Return the mean of the round before [P, C] and which samples were answered then."""
        if not self.needs_fixed_public_set or not len(self._mean):
            return None
        if self._mean.shape != bank.logits.shape[1:]:
            raise KnowledgeError(
                "The rule LogitArithmetic compares with what was said of the same samples before",
                got=f"{list(bank.logits.shape[1:])} predictions after {list(self._mean.shape)}",
                allowed="the same samples in every round",
                next_step="Set rule.reference=mean, or select=all.",
            )
        return self._mean.to(bank.logits.device), self._known.to(bank.logits.device)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the last round's ``mean`` [P, C] and who is ``known`` [P], if any."""
        if not len(self._mean):
            return {}
        return {"mean": self._mean.clone(), "known": self._known.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state.

        Raises:
            KnowledgeError: If it holds neither nothing nor finite means [P, C] and bools [P].
        """
        mean, known = state.get("mean", torch.zeros(0, 0)), state.get("known", torch.zeros(0) > 0)
        ok = mean.ndim == 2 and known.shape == mean.shape[:1] and known.dtype == torch.bool
        if not ok or not bool(mean.isfinite().all()) or len(state) not in (0, 2):
            raise KnowledgeError(
                "The saved state of LogitArithmetic does not fit",
                got={name: list(value.shape) for name, value in state.items()},
                allowed="finite means [P, C] and which are known, bool [P]",
            )
        self._mean, self._known = mean.clone(), known.clone()
