"""Questions that are asked of models at evaluation: how they stand perturbed inputs, and more."""

from fedfuse.probes.asked import AskedModel
from fedfuse.probes.asking import CLEAN, Probes
from fedfuse.probes.blur import Blur
from fedfuse.probes.by_class import ByClass
from fedfuse.probes.by_distance import ByDistance
from fedfuse.probes.consistency import Consistency
from fedfuse.probes.gradient_sign import FGSM, PGD
from fedfuse.probes.protocol import Asked, Probe

__all__ = [
    "CLEAN",
    "FGSM",
    "PGD",
    "Asked",
    "AskedModel",
    "Blur",
    "ByClass",
    "ByDistance",
    "Consistency",
    "Probe",
    "Probes",
]
