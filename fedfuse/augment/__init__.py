"""Public samples changed before everybody answers, alike on all sides."""

from fedfuse.augment.guided import Guided, ServerView, chosen
from fedfuse.augment.hard_augment import HardAugment
from fedfuse.augment.mix_distribution import MixDistribution
from fedfuse.augment.partial_mixup import PartialMixup
from fedfuse.augment.protocol import Augment, Augmented, augmented
from fedfuse.augment.sample_generator import SampleGenerator

__all__ = [
    "Augment",
    "Augmented",
    "Guided",
    "HardAugment",
    "MixDistribution",
    "PartialMixup",
    "SampleGenerator",
    "ServerView",
    "augmented",
    "chosen",
]
