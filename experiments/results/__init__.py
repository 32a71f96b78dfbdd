"""Read what runs left behind: a run folder, a sweep's or a map's, and who may be compared."""

from experiments.results.arms import TESTS, Arm, read_arm
from experiments.results.comparisons import Moment, comparisons, share_undone
from experiments.results.folders import Results, load
from experiments.results.lineup import Lineup, flatten, lineups, text, varying
from experiments.results.runs import Run, read_run

__all__ = [
    "TESTS",
    "Arm",
    "Lineup",
    "Moment",
    "Results",
    "Run",
    "comparisons",
    "flatten",
    "lineups",
    "load",
    "read_arm",
    "read_run",
    "share_undone",
    "text",
    "varying",
]
