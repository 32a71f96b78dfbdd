"""Who takes part in a round, and what becomes of those who rest."""

from fedfuse.participation.resting import Resting
from fedfuse.participation.rounds import Participants
from fedfuse.participation.samplers import BySize, Everybody, HeldIn, RoundRobin, Uniform

__all__ = ["BySize", "Everybody", "HeldIn", "Participants", "Resting", "RoundRobin", "Uniform"]
