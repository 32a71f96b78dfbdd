"""Exchanges without a public set: mean logits per class, prototypes, and weights."""

from fedfuse.exchange.fd import class_means, fd_loss, leave_one_out
from fedfuse.exchange.prototypes import (
    class_prototypes,
    mean_prototypes,
    nearest_prototype,
    prototype_loss,
    stack_prototypes,
)
from fedfuse.exchange.weights import (
    check_same_architecture,
    ditto_term,
    proximal_term,
    weighted_average,
)

__all__ = [
    "check_same_architecture",
    "class_means",
    "class_prototypes",
    "ditto_term",
    "fd_loss",
    "leave_one_out",
    "mean_prototypes",
    "nearest_prototype",
    "prototype_loss",
    "proximal_term",
    "stack_prototypes",
    "weighted_average",
]
