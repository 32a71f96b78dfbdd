"""How the models of one architecture become one for each of its clients."""

from fedfuse.merge.base import BASES, Base
from fedfuse.merge.dare import Dare
from fedfuse.merge.mean import Mean
from fedfuse.merge.opcm import Opcm
from fedfuse.merge.protocol import Merge, MergesAcross, Vectors, merged
from fedfuse.merge.task_arithmetic import TaskArithmetic
from fedfuse.merge.ties import Ties

__all__ = [
    "BASES",
    "Base",
    "Dare",
    "Mean",
    "Merge",
    "MergesAcross",
    "Opcm",
    "TaskArithmetic",
    "Ties",
    "Vectors",
    "merged",
]
