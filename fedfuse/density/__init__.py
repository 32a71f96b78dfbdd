"""How much a public sample looks like a client's own data: masks and confidences per sample."""

from fedfuse.density.client_selector import KuLSIFSelector
from fedfuse.density.gaussian import GaussianDensity
from fedfuse.density.kulsif import kulsif_ratio
from fedfuse.density.logistic import AuxiliaryScore
from fedfuse.density.protocol import Familiarity, Scored

__all__ = [
    "AuxiliaryScore",
    "Familiarity",
    "GaussianDensity",
    "KuLSIFSelector",
    "Scored",
    "kulsif_ratio",
]
