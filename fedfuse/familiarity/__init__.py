"""How much a public sample looks like a client's own data: masks and confidences per sample."""

from fedfuse.familiarity.client_selector import KuLSIFSelector
from fedfuse.familiarity.gaussian import GaussianDensity
from fedfuse.familiarity.kulsif import kulsif_ratio
from fedfuse.familiarity.logistic import AuxiliaryScore
from fedfuse.familiarity.nearest_centre import NearestCentre
from fedfuse.familiarity.protocol import Familiarity, Scored

__all__ = [
    "AuxiliaryScore",
    "Familiarity",
    "GaussianDensity",
    "KuLSIFSelector",
    "NearestCentre",
    "Scored",
    "kulsif_ratio",
]
