"""The values that flow through fedfuse: data, knowledge going up, teachers coming down, metrics.

Sizes: K clients, P public samples, C classes. A container always holds several clients, stacked
in ascending order of ``client_id``; one client is the case K = 1. That is what lets one node host
many clients with one message, and what makes results independent of who answers first.
"""

from fedfuse.types.data import (
    ClientData,
    FederatedData,
    IntArray,
    PublicSet,
    Samples,
    TellsInputs,
    Transform,
    is_text,
)
from fedfuse.types.knowledge import ClassShares, Fusion, KnowledgeBank, Space, Teachers
from fedfuse.types.metrics import MOST_BITS, ClientMetrics, MetricRow, Phase, RoundRecord

__all__ = [
    "MOST_BITS",
    "ClassShares",
    "ClientData",
    "ClientMetrics",
    "FederatedData",
    "Fusion",
    "IntArray",
    "KnowledgeBank",
    "MetricRow",
    "Phase",
    "PublicSet",
    "RoundRecord",
    "Samples",
    "Space",
    "Teachers",
    "TellsInputs",
    "Transform",
    "is_text",
]
