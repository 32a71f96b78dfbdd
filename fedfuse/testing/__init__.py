"""Checks that tell the author of a part of their own whether it keeps the contract.

Call one in a test, or in a Python shell; it is silent if all is well.
"""

from fedfuse.testing.failed import CheckFailed
from fedfuse.testing.partitioner import check_partitioner

__all__ = ["CheckFailed", "check_partitioner"]
