"""Distillation: what a student minimises against its teacher."""

from fedfuse.distill.ap_at_k import APAtK
from fedfuse.distill.balanced import BalancedKL
from fedfuse.distill.divergence import Divergence
from fedfuse.distill.dkd import DKD
from fedfuse.distill.losses import KL, MAELogits, MSELogits, SoftCrossEntropy
from fedfuse.distill.ofa import OFA
from fedfuse.distill.relations import DIST, CrossCorrelation, RelationGraph, Similarity
from fedfuse.distill.standardised import StandardisedKL
from fedfuse.distill.taid import TAID
from fedfuse.distill.targets import as_targets
from fedfuse.distill.tgeo import TGeo
from fedfuse.distill.weighted_sum import WeightedSum
from fedfuse.distill.with_labels import WithLabels

__all__ = [
    "DIST",
    "DKD",
    "KL",
    "OFA",
    "TAID",
    "APAtK",
    "BalancedKL",
    "CrossCorrelation",
    "Divergence",
    "MAELogits",
    "MSELogits",
    "RelationGraph",
    "Similarity",
    "SoftCrossEntropy",
    "StandardisedKL",
    "TGeo",
    "WeightedSum",
    "WithLabels",
    "as_targets",
]
