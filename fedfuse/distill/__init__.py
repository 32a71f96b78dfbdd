"""Distillation: what a student minimises against its teacher."""

from fedfuse.distill.balanced import BalancedKL
from fedfuse.distill.divergence import Divergence
from fedfuse.distill.losses import KL, MAELogits, MSELogits, SoftCrossEntropy
from fedfuse.distill.standardised import StandardisedKL
from fedfuse.distill.taid import TAID
from fedfuse.distill.targets import as_targets

__all__ = [
    "KL",
    "TAID",
    "BalancedKL",
    "Divergence",
    "MAELogits",
    "MSELogits",
    "SoftCrossEntropy",
    "StandardisedKL",
    "as_targets",
]
