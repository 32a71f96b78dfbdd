"""How far what clients say of the public set moves from one exchange to the next.

The measure of DYNAMICQA (Marjanovic et al. 2024, https://arxiv.org/abs/2407.17023), "persuasion",
is of language models and their context; here a client's context is its lesson. Only the abstract
was read: the form is ours. A server sees uploads, so what a client learnt alone since the lesson,
in the next round's local training, is part of what moved it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fedfuse.exchange.kind import Combine
from fedfuse.shapes import Bool, Float
from fedfuse.types import Fusion, KnowledgeBank

METRIC = "persuasion"


def total_variation(
    before: Float[Tensor, "*batch C"], after: Float[Tensor, "*batch C"]
) -> Float[Tensor, "*batch"]:
    """Return half the sum of absolute differences of two distributions, 0 to 1.

    >>> total_variation(torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2]))
    tensor(0.3000)
    """
    return (before - after).abs().sum(dim=-1) / 2


def agreed(probs: Float[Tensor, "K P C"], known: Bool[Tensor, "K P"]) -> Bool[Tensor, " P"]:
    """Return on which samples more than half of those who answered name the same class."""
    votes = torch.zeros(probs.shape[1:], dtype=torch.int64)
    votes.scatter_add_(1, probs.argmax(dim=2).T, known.T.long())
    return 2 * votes.amax(dim=1) > known.sum(dim=0)


@dataclass(slots=True)
class LastUploads:
    """What clients said when they last exchanged; a checkpoint saves it."""

    said: dict[str, Tensor] = field(default_factory=dict)

    def moved(self, bank: KnowledgeBank) -> dict[str, float]:
        """Return how far clients moved since, by name, and keep what they say now.

        Args:
            bank: The clients' predictions of all public samples.

        Returns:
            The mean over the clients and samples that were there both times; of all samples, and
            of those of which most clients said the same when the lesson was made, and the others.
            Nothing where there is nothing to compare.
        """
        probs = bank.logits.float().softmax(dim=2)
        known = torch.ones(probs.shape[:2], dtype=torch.bool) if bank.mask is None else bank.mask
        before, self.said = self.said, {"ids": bank.client_ids, "probs": probs, "known": known}
        if not before:
            return {}
        then = torch.isin(before["ids"], bank.client_ids)
        now = torch.isin(bank.client_ids, before["ids"])
        moved = total_variation(before["probs"][then], probs[now])
        both = before["known"][then] & known[now]
        united = agreed(before["probs"], before["known"])
        found = {"": both, "_agreed": both & united, "_disputed": both & ~united}
        return {f"{METRIC}{of}": float(moved[it].mean()) for of, it in found.items() if it.any()}

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must save."""
        return dict(self.said)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self.said = dict(state)


@dataclass(frozen=True, slots=True)
class AlsoMeasurePersuasion:
    """Fuse, and note how far clients have moved since they last exchanged.

    Args:
        combine: What fuses.
        uploads: What they said then.
    """

    combine: Combine
    uploads: LastUploads = field(default_factory=LastUploads)

    def __call__(self, knowledge: object, round_: int) -> Fusion:
        """Return the fusion with the measure among its metrics."""
        assert isinstance(knowledge, KnowledgeBank)
        fusion = self.combine(knowledge, round_)
        return replace(fusion, metrics={**fusion.metrics, **self.uploads.moved(knowledge)})
