"""Who takes part in a round."""

from fedfuse.participation.rounds import Participants
from fedfuse.participation.samplers import BySize, Everybody, RoundRobin, Uniform

__all__ = ["BySize", "Everybody", "Participants", "RoundRobin", "Uniform"]
