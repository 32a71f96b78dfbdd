"""KD++ between clients: prototypes of all owners say how long and where a class's features are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clients.exchange.private_term import PrivateTerm, came
from clients.exchange.protocol import Tools
from fedfuse.distill.norm_and_direction import NormAndDirection, told_of
from fedfuse.train.sides import FeatureTerm


@dataclass(frozen=True, slots=True)
class NDPrototypes(PrivateTerm):
    """Regularise feature norm and direction on private data (KD++, arXiv 2305.17007).

    Mean features per class go up with the predictions, their mean over the owners comes back, and
    every step on private data (of local training, and beside distillation) adds
    ``lam (1 - <s, e_y> / max(|s|, nu_y))``: e_y is the unit vector of its class's prototype, nu_y
    the prototype's norm. The authors take a teacher's class means, and for nu a sample's own norm
    under the teacher; that prototypes come from all clients is ours.

    Args:
        lam: Weight of the term; 0 exchanges prototypes and learns nothing of them.
    """

    lam: float = 2.0

    def __post_init__(self) -> None:
        PrivateTerm.__post_init__(self)
        NormAndDirection(self.lam)

    @property
    def adds(self) -> bool:
        """Whether the term weighs anything."""
        return self.lam > 0

    def told(self, client_id: int, labels: Tensor, tools: Tools) -> tuple[FeatureTerm, Tensor]:
        """Return the term, and direction, norm and presence of each label's prototype."""
        return NormAndDirection(self.lam), told_of(*came(client_id, tools, labels.device), labels)
