"""What a client does to its predictions before they leave it, and how much they still tell.

Two kinds of mechanism. :class:`Gaussian` and :class:`Laplace` bound each prediction, then perturb
it, and come with an (epsilon, delta) for the whole run. :class:`LabelOnly`, :class:`TopKOnly`,
:class:`Temperature` and :class:`Swing` send less or blunter predictions and promise nothing.
:mod:`fedfuse.privacy.membership` measures what any of them leaves to an attacker.
"""

from fedfuse.privacy.blunt import LabelOnly, Swing, Temperature, TopKOnly
from fedfuse.privacy.bound import clip_l1, clip_l2
from fedfuse.privacy.noise import Gaussian, Laplace
from fedfuse.privacy.protocol import Calibrated, Guarantee, Privacy
from fedfuse.privacy.stage import PrivacyStage

__all__ = [
    "Calibrated",
    "Gaussian",
    "Guarantee",
    "LabelOnly",
    "Laplace",
    "Privacy",
    "PrivacyStage",
    "Swing",
    "Temperature",
    "TopKOnly",
    "clip_l1",
    "clip_l2",
]
