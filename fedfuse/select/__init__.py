"""Which public samples a round is about, and which of them must be asked again."""

from fedfuse.select.cache import Signal, SignalCache
from fedfuse.select.protocol import Select
from fedfuse.select.rounds import PublicRounds
from fedfuse.select.samples import PublicSamples
from fedfuse.select.selections import All, ClassBalanced, RandomSubset, Stratified

__all__ = [
    "All",
    "ClassBalanced",
    "PublicRounds",
    "PublicSamples",
    "RandomSubset",
    "Select",
    "Signal",
    "SignalCache",
    "Stratified",
]
