"""Which public samples clients are asked for, answer for and want to be taught on.

A requester (:class:`fedfuse.protocols.Requester`) is the server's: it learns from every fusion what
to ask for next. Answers and wishes (:class:`fedfuse.protocols.Answering`, ``Wishing``) are each
client's own. All are a file each.
"""

from fedfuse.request.asked import asked, rows_of
from fedfuse.request.curriculum import Curriculum
from fedfuse.request.difference import Difference
from fedfuse.request.drawn import Drawn
from fedfuse.request.gap_by_domain import GapByDomain
from fedfuse.request.jointly_confident import JointlyConfident
from fedfuse.request.ksas import KSAS
from fedfuse.request.on_demand import OnDemand
from fedfuse.request.weak_classes import WeakClasses
from fedfuse.request.where_behind import WhereBehind

__all__ = [
    "KSAS",
    "Curriculum",
    "Difference",
    "Drawn",
    "GapByDomain",
    "JointlyConfident",
    "OnDemand",
    "WeakClasses",
    "WhereBehind",
    "asked",
    "rows_of",
]
