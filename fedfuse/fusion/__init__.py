"""Knowledge fusion: effectiveness scores, neighbours, fusion rules, sharpening.

Each method is a pure function on tensors and, beside it, a thin frozen class that holds its
validated options. :class:`Pipeline` puts one of each together.
"""

from fedfuse.fusion.by_class import ByClass
from fedfuse.fusion.class_weights import ClassWeights
from fedfuse.fusion.neighbours import All, AllBut, Mutual, Threshold, TopK, TopP
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.fusion.rules import GeometricMean, MeanLogits, MeanProbabilities, weighted_mean
from fedfuse.fusion.scorers import DataSize, KnFu, Uniform
from fedfuse.fusion.sharpen import ERA, Hard, Power

__all__ = [
    "ERA",
    "All",
    "AllBut",
    "ByClass",
    "ClassWeights",
    "DataSize",
    "GeometricMean",
    "Hard",
    "KnFu",
    "MeanLogits",
    "MeanProbabilities",
    "Mutual",
    "Pipeline",
    "Power",
    "Threshold",
    "TopK",
    "TopP",
    "Uniform",
    "weighted_mean",
]
