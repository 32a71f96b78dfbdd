"""Read what runs left behind: a run folder, a sweep's or a map's, and who may be compared."""

from experiments.results.arms import SHORT, TESTS, Arm, read_arm
from experiments.results.compared import Compared, against, compared, to_tell, with_prior
from experiments.results.comparisons import Moment, comparisons, share_undone
from experiments.results.entrants import controls, entrants
from experiments.results.folders import Results, load
from experiments.results.run_group import RunGroup, flatten, run_groups, text, varying
from experiments.results.runs import Run, read_run

__all__ = [
    "SHORT",
    "TESTS",
    "Arm",
    "Compared",
    "Moment",
    "Results",
    "Run",
    "RunGroup",
    "against",
    "compared",
    "comparisons",
    "controls",
    "entrants",
    "flatten",
    "load",
    "read_arm",
    "read_run",
    "run_groups",
    "share_undone",
    "text",
    "to_tell",
    "varying",
    "with_prior",
]
