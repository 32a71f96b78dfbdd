"""Deal the private samples out to the clients: one partitioner a file."""

from fedfuse.partition.apply import apply_partitioner
from fedfuse.partition.check import validate_partition
from fedfuse.partition.dirichlet import Dirichlet
from fedfuse.partition.dirichlet_balanced import DirichletBalanced
from fedfuse.partition.dirichlet_capped import DirichletCapped
from fedfuse.partition.dirichlet_inner import DirichletInner
from fedfuse.partition.feature_noise import FeatureNoise
from fedfuse.partition.feature_rotation import FeatureRotation
from fedfuse.partition.fixed import Fixed
from fedfuse.partition.from_flower import FromFlower
from fedfuse.partition.iid import Iid
from fedfuse.partition.label_groups import LabelGroups
from fedfuse.partition.pathological import Pathological
from fedfuse.partition.quantity import QuantityLogNormal, QuantityPowerLaw
from fedfuse.partition.repair import RepairWarning
from fedfuse.partition.shards import Shards
from fedfuse.partition.stats import PartitionStats
from fedfuse.partition.table import preview

__all__ = [
    "Dirichlet",
    "DirichletBalanced",
    "DirichletCapped",
    "DirichletInner",
    "FeatureNoise",
    "FeatureRotation",
    "Fixed",
    "FromFlower",
    "Iid",
    "LabelGroups",
    "PartitionStats",
    "Pathological",
    "QuantityLogNormal",
    "QuantityPowerLaw",
    "RepairWarning",
    "Shards",
    "apply_partitioner",
    "preview",
    "validate_partition",
]
