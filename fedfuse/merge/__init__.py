"""How the models of one architecture become one for each of its clients."""

from fedfuse.merge.base import BASES, Base
from fedfuse.merge.mean import Mean
from fedfuse.merge.protocol import Merge, MergesAcross, Vectors, merged
from fedfuse.merge.task_arithmetic import TaskArithmetic

__all__ = ["BASES", "Base", "Mean", "Merge", "MergesAcross", "TaskArithmetic", "Vectors", "merged"]
