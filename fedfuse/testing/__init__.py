"""Checks that tell the author of a part of their own whether it keeps the contract.

Call one in a test, or in a Python shell; it is silent if all is well.
"""

from fedfuse.testing.augment import check_augment, example_view
from fedfuse.testing.codec import check_codec
from fedfuse.testing.distill import check_distill_loss
from fedfuse.testing.exchange import check_exchange
from fedfuse.testing.failed import CheckFailed
from fedfuse.testing.fusion import (
    check_neighbours,
    check_rule,
    check_scorer,
    check_sharpen,
    example_bank,
)
from fedfuse.testing.local_loss import check_local_loss
from fedfuse.testing.merge import check_merge, example_vectors
from fedfuse.testing.partitioner import check_partitioner
from fedfuse.testing.probe import check_probe
from fedfuse.testing.request import check_answering, check_requester, check_wishing
from fedfuse.testing.slots import (
    check_extract,
    check_familiarity,
    check_filter,
    check_select,
    check_sharing_stage,
    check_uptake,
)

__all__ = [
    "CheckFailed",
    "check_answering",
    "check_augment",
    "check_codec",
    "check_distill_loss",
    "check_exchange",
    "check_extract",
    "check_familiarity",
    "check_filter",
    "check_local_loss",
    "check_merge",
    "check_neighbours",
    "check_partitioner",
    "check_probe",
    "check_requester",
    "check_rule",
    "check_scorer",
    "check_select",
    "check_sharing_stage",
    "check_sharpen",
    "check_uptake",
    "check_wishing",
    "example_bank",
    "example_vectors",
    "example_view",
]
