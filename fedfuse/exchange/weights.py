"""Exchanging weights: the mean of models, and the terms that hold a model near another.

Everything works on state dicts, name to tensor, and only within one architecture: a mean over
models that are not the same is refused, never silently taken over what they share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError, ModelError
from fedfuse.shapes import Float

Weights = Mapping[str, Tensor]


def check_same_architecture(states: Sequence[Weights]) -> None:
    """Raise :class:`ModelError`, naming the first difference, unless all states fit together.

    >>> check_same_architecture([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}])
    Traceback (most recent call last):
    ...
    fedfuse.errors.ModelError: Models of different architectures cannot exchange weights: got 'w' \
of shape [3] at position 1, allowed: [2] as at position 0. Give all clients one model, or choose \
a method that shares predictions.
    """
    first = states[0]
    for position, state in enumerate(states):
        name = next((name for name in first if name not in state), None)
        if name is not None:
            raise _different(f"no '{name}' at position {position}", "the names of position 0")
        name = next((name for name in state if name not in first), None)
        if name is not None:
            raise _different(f"'{name}' at position {position}", "the names of position 0")
        for name, tensor in first.items():
            if state[name].shape != tensor.shape:
                shape = list(state[name].shape)
                raise _different(
                    f"'{name}' of shape {shape} at position {position}",
                    f"{list(tensor.shape)} as at position 0",
                )


def weighted_average(states: Sequence[Weights], weights: Float[Tensor, " K"]) -> dict[str, Tensor]:
    """Return ``sum_k w_k state_k / sum_k w_k`` (FedAvg, McMahan et al. 2017, with w_k = n_k).

    Sums are taken in float64, in the order given: sort by ``client_id`` first. Buffers are averaged
    like parameters; whole numbers, such as a batch norm's count of batches, are rounded.

    Args:
        states: K states of one architecture.
        weights: Not negative, not all zero.

    Raises:
        ModelError: If the architectures differ.
        KnowledgeError: If the weights cannot be normalised, or there is no state.

    >>> a, b = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([4.0, 6.0])}
    >>> weighted_average([a, b], torch.tensor([2.0, 1.0]))
    {'w': tensor([2., 2.])}
    """
    shares = weights.double()
    usable = (
        len(states) == len(shares) > 0
        and bool(shares.isfinite().all() and (shares >= 0).all())
        and float(shares.sum()) > 0
    )
    if not usable:
        raise KnowledgeError(
            "Models cannot be averaged with these weights",
            got=f"{weights.tolist()[:10]} for {len(states)} models",
            allowed="one finite weight from 0 upwards per model, not all zero",
        )
    check_same_architecture(states)
    shares = shares / shares.sum()
    return {name: _mean([state[name] for state in states], shares) for name in states[0]}


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


def _mean(tensors: Sequence[Tensor], shares: Float[Tensor, " K"]) -> Tensor:
    """Return the weighted mean in the tensors' own type."""
    stacked = torch.stack(list(tensors)).double()
    mean = torch.einsum("k,k...->...", shares.to(stacked.device), stacked)
    first = tensors[0]
    return (mean if first.is_floating_point() else mean.round()).to(first.dtype)


def _different(got: str, allowed: str) -> ModelError:
    """Return the error of architectures that do not fit."""
    return ModelError(
        "Models of different architectures cannot exchange weights",
        got=got,
        allowed=allowed,
        next_step="Give all clients one model, or choose a method that shares predictions.",
    )
