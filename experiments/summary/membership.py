"""How much of the clients' membership leaked, in a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Leak:
    """Membership inference over all clients at the end of a run.

    Args:
        auc: Mean area under the ROC curve by attack (``loss``, ``shadow``).
        auc_worst: The highest of a client.
        tpr: Mean share of members found at 1% false alarms.
        tpr_worst: The highest of a client.
        members: Members tried, mean over the clients.
        others: Non-members tried.
    """

    auc: dict[str, float]
    auc_worst: dict[str, float]
    tpr: dict[str, float]
    tpr_worst: dict[str, float]
    members: float
    others: float

    def lines(self) -> list[str]:
        """Return the leak in words."""
        attacks = [
            f"  by {name}: AUC {self.auc[name]:.3f} (worst client {self.auc_worst[name]:.3f}), "
            f"hits at 1% false alarms {100 * self.tpr[name]:.1f}% "
            f"({100 * self.tpr_worst[name]:.1f}%)"
            for name in self.auc
        ]
        tried = f"{self.members:.0f} members and {self.others:.0f} others a client"
        return [f"membership inference on what clients share, {tried}", *attacks]


def leak(at: Callable[[str], Mapping[int, float]]) -> Leak | None:
    """Return the leak; None if nobody was attacked.

    Args:
        at: Metric name to the clients' values in the attacked round.
    """
    auc: dict[str, list[float]] = {}
    tpr: dict[str, list[float]] = {}
    for name in ("loss", "shadow"):
        if found := at(f"membership_{name}_auc"):
            auc[name] = list(found.values())
            tpr[name] = list(at(f"membership_{name}_tpr").values())
    if not auc:
        return None
    return Leak(
        auc={name: float(np.mean(values)) for name, values in auc.items()},
        auc_worst={name: max(values) for name, values in auc.items()},
        tpr={name: float(np.mean(values)) for name, values in tpr.items()},
        tpr_worst={name: max(values) for name, values in tpr.items()},
        members=float(np.mean(list(at("membership_members").values()))),
        others=float(np.mean(list(at("membership_others").values()))),
    )
