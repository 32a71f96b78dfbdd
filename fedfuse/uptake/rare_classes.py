"""Learn most where the teacher names a class that the client has seen little of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.arrival import Arrival
from fedfuse.shapes import Float, Int
from fedfuse.types import Teachers
from fedfuse.uptake.chain import weighed
from fedfuse.validation import require_one_of

UNSEEN = ("zero", "max")


def rarity(counts: Int[Tensor, "k C"], unseen: str = "zero") -> Float[Tensor, "k C"]:
    """Return each class's share of a client's rarity, ``(1/n_c) / sum of (1/n)``; rows sum to 1.

    A client without any sample has no rare classes: all count alike.

    Args:
        counts: Private samples of each class.
        unseen: What a class without any counts as: ``zero`` is left out, ``max`` is as rare as
            the client's rarest class.

    >>> rarity(torch.tensor([[6, 3, 0]]))
    tensor([[0.3333, 0.6667, 0.0000]])
    >>> rarity(torch.tensor([[6, 3, 0]]), unseen="max")
    tensor([[0.2000, 0.4000, 0.4000]])
    """
    exact = counts.double()
    inverse = torch.where(exact > 0, 1 / exact.clamp_min(1), 0)
    if unseen == "max":
        inverse = torch.where(exact > 0, inverse, inverse.amax(dim=1, keepdim=True))
    total = inverse.sum(dim=1, keepdim=True)
    alike = torch.full_like(inverse, 1 / counts.shape[1])
    return torch.where(total > 0, inverse / total.clamp_min(1e-300), alike).float()


@dataclass(frozen=True, slots=True)
class RareClasses:
    """Weigh each sample by how rare its teacher's class is with the client (KAFAL, 2211.13579).

    The weight is ``C rarity_c`` of the class c that the teacher finds most probable, 1 in the mean
    over classes. In the authors' code it is ``rarity_c``, samples are mixed and so are their
    weights; here they are as they are.

    Args:
        unseen: A class that the client has no sample of is left out (``zero``, as the authors do),
            or counts as its rarest one (``max``).
    """

    unseen: str = "zero"

    def __post_init__(self) -> None:
        require_one_of("RareClasses", "unseen", self.unseen, UNSEEN)

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers:
        """Return the teachers with other sample weights."""
        weights = teachers.targets.shape[-1] * rarity(at.class_counts, self.unseen)
        return weighed(teachers, weights.gather(1, teachers.targets.argmax(dim=-1)))
