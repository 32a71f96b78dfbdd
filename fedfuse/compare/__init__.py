"""Whether one way of training beat another: paired gains, their intervals, and words for them."""

from fedfuse.compare.betting import averaged, mean_wealth, sign_wealth
from fedfuse.compare.binomial import at_most, clopper_pearson
from fedfuse.compare.change import Change, change
from fedfuse.compare.comparison import Comparison, compare
from fedfuse.compare.controls import ADJUSTED, BRIEF, CONTROLS, LOCAL, POST_HOC, POST_HOC_METRIC
from fedfuse.compare.decision import Answer, Decision
from fedfuse.compare.flips import Flips, flips, fuar
from fedfuse.compare.holm import certain_together, corrected, count_judged, holm
from fedfuse.compare.interval import Interval, bootstrap
from fedfuse.compare.outcomes import ENOUGH, HARMED, HELPED, UNDECIDED, outcomes
from fedfuse.compare.pareto import pareto_front
from fedfuse.compare.points import rounded, signed, unsigned
from fedfuse.compare.ranking import ranking, ranking_over
from fedfuse.compare.transfer import area, backward_loss, backward_transfer
from fedfuse.compare.verdict import verdict

__all__ = [
    "ADJUSTED",
    "BRIEF",
    "CONTROLS",
    "ENOUGH",
    "HARMED",
    "HELPED",
    "LOCAL",
    "POST_HOC",
    "POST_HOC_METRIC",
    "UNDECIDED",
    "Answer",
    "Change",
    "Comparison",
    "Decision",
    "Flips",
    "Interval",
    "area",
    "at_most",
    "averaged",
    "backward_loss",
    "backward_transfer",
    "bootstrap",
    "certain_together",
    "change",
    "clopper_pearson",
    "compare",
    "corrected",
    "count_judged",
    "flips",
    "fuar",
    "holm",
    "mean_wealth",
    "outcomes",
    "pareto_front",
    "ranking",
    "ranking_over",
    "rounded",
    "sign_wealth",
    "signed",
    "unsigned",
    "verdict",
]
