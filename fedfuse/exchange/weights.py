"""The terms that hold a model near another, of their parameters by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def squared_distance(first: Weights, second: Weights) -> Tensor:
    """Return ``sum |a - b|**2`` over the names of ``first``, a scalar that gradients flow through.

    Pass parameters, not buffers.
    """
    differences = [(tensor - second[name]).square().sum() for name, tensor in first.items()]
    return torch.stack(differences).sum()


def proximal_term(parameters: Weights, received: Weights, mu: float) -> Tensor:
    """Return FedProx's ``mu / 2 |w - w_t|**2`` (Li et al. 2020), to add to a client's loss.

    Args:
        parameters: The model's, by name.
        received: The global model of the round; needs no gradient.
        mu: Strength; 0 is FedAvg.

    >>> proximal_term({"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([1.0, 1.0])}, mu=0.1)
    tensor(0.2500)
    """
    return mu / 2 * squared_distance(parameters, received)


def ditto_term(personal: Weights, shared: Weights, lam: float) -> Tensor:
    """Return Ditto's ``lam / 2 |v - w|**2`` (Li et al. 2021) for the personal model v.

    The formula is :func:`proximal_term`'s; the model is another: v never leaves the client, while
    w takes part in FedAvg with the plain loss.
    """
    return lam / 2 * squared_distance(personal, shared)
