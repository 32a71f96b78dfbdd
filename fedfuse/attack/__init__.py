"""Clients that do not play by the rules: what they learn from, and what they send."""

from fedfuse.attack.attacks import (
    ConstantClass,
    FreeRider,
    Imitate,
    LabelFlip,
    LittleIsEnough,
    PermutedLabels,
    RandomLogits,
)
from fedfuse.attack.protocol import Attack, Scene
from fedfuse.attack.stage import AttackStage, adversaries

__all__ = [
    "Attack",
    "AttackStage",
    "ConstantClass",
    "FreeRider",
    "Imitate",
    "LabelFlip",
    "LittleIsEnough",
    "PermutedLabels",
    "RandomLogits",
    "Scene",
    "adversaries",
]
