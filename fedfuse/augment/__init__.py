"""Public samples changed before everybody answers, alike on all sides from the seed."""

from fedfuse.augment.mix_distribution import MixDistribution
from fedfuse.augment.partial_mixup import PartialMixup
from fedfuse.augment.protocol import Augment, Augmented, augmented

__all__ = ["Augment", "Augmented", "MixDistribution", "PartialMixup", "augmented"]
