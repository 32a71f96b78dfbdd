"""How the models of one architecture become one for each of its clients."""

from fedfuse.merge.base import BASES, Base
from fedfuse.merge.coalesce import Coalesce
from fedfuse.merge.dare import Dare
from fedfuse.merge.layer_swap import LayerSwap
from fedfuse.merge.mean import Mean
from fedfuse.merge.opcm import Opcm
from fedfuse.merge.protocol import ChecksLayouts, Merge, MergesAcross, Vectors, merged
from fedfuse.merge.task_arithmetic import TaskArithmetic
from fedfuse.merge.ties import Ties
from fedfuse.merge.twin import Twin

__all__ = [
    "BASES",
    "Base",
    "ChecksLayouts",
    "Coalesce",
    "Dare",
    "LayerSwap",
    "Mean",
    "Merge",
    "MergesAcross",
    "Opcm",
    "TaskArithmetic",
    "Ties",
    "Twin",
    "Vectors",
    "merged",
]
