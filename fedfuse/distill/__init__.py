"""Distillation: what a student minimises against its teacher."""

from fedfuse.distill.losses import KL, MAELogits, MSELogits, SoftCrossEntropy
from fedfuse.distill.taid import TAID
from fedfuse.distill.targets import as_targets

__all__ = ["KL", "TAID", "MAELogits", "MSELogits", "SoftCrossEntropy", "as_targets"]
