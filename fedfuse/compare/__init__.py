"""Whether one way of training beat another: paired gains, their intervals, and words for them."""

from fedfuse.compare.comparison import Comparison, compare
from fedfuse.compare.interval import Interval, bootstrap
from fedfuse.compare.outcomes import HARMED, HELPED, UNDECIDED, outcomes
from fedfuse.compare.verdict import verdict

__all__ = [
    "HARMED",
    "HELPED",
    "UNDECIDED",
    "Comparison",
    "Interval",
    "bootstrap",
    "compare",
    "outcomes",
    "verdict",
]
