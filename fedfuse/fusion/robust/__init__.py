"""Fusion that a minority of wrong or hostile clients cannot drag where it wants."""

from fedfuse.fusion.robust.coordinate import CoordinateMedian, TrimmedMean
from fedfuse.fusion.robust.geometric import GeometricMedian
from fedfuse.fusion.robust.krum import Krum
from fedfuse.fusion.robust.spectral import SpectralFilter

__all__ = ["CoordinateMedian", "GeometricMedian", "Krum", "SpectralFilter", "TrimmedMean"]
