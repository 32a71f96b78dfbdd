"""What can happen to a client in a round, drawn by the seed."""

from fedfuse.faults.kinds import Churn, Dropout, Messages, Restarts, Stragglers
from fedfuse.faults.protocol import Fate, Faults

__all__ = ["Churn", "Dropout", "Fate", "Faults", "Messages", "Restarts", "Stragglers"]
