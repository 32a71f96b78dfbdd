"""RHFL's confidence in clients: sources that lower their private loss fast count for more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.shapes import Float
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_number


def confidences(efficiency: Float[Tensor, " K"], eta: float) -> Float[Tensor, " K"]:
    """Return ``1 / (K - 1) + eta F_k / sum F``, the logarithms of unnormalised weights.

    Clients that have no efficiency yet (NaN) count as those whose loss stood still. Where losses
    did not fall in sum, no share of the fall can be told, and all count alike.

    >>> confidences(torch.tensor([0.3, 0.1, torch.nan]), eta=0.5)
    tensor([0.8750, 0.6250, 0.5000])
    """
    fell = efficiency.nan_to_num(nan=0.0)
    total = fell.sum()
    shares = torch.where(total > 0, fell / total, 0.0)
    return 1 / max(len(fell) - 1, 1) + eta * shares


@dataclass(frozen=True, slots=True)
class ClientConfidence:
    """Weigh every source by label quality times learning efficiency (``exchange=loss_rated``).

    Client confidence re-weighting of RHFL (Fang and Ye, CVPR 2022): a softmax over the clients of
    ``1 / (K - 1) + eta F_k / sum F``, F the efficiency that each tells.

    Args:
        eta: How much it counts; 0 is the plain mean.
    """

    eta: float = 0.5
    needs_efficiency: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("ClientConfidence", "eta", self.eta, at_least=0)

    def __call__(self, bank: KnowledgeBank, labels: Tensor | None) -> Float[Tensor, "K K"]:  # noqa: ARG002
        """Return the scores, alike for all receivers; of a bank without efficiencies all alike."""
        told = bank.efficiency
        if told is None:
            told = bank.logits.new_full((bank.num_clients,), torch.nan)
        scores = confidences(told.to(bank.logits.dtype), self.eta)
        return scores.expand(bank.num_clients, -1).clone()
