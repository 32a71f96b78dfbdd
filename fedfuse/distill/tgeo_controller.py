"""TGeo-KD's network: features of a sample to how much the teacher counts for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.shapes import Float


def controller(
    omega: Float[Tensor, " N"], features: Float[Tensor, "B F"], hidden: Sequence[int]
) -> Float[Tensor, " B"]:
    """Return alpha of each sample: the sigmoid of a network with leaky ReLU.

    Args:
        omega: All weights and biases, layer after layer.
        features: The samples' features.
        hidden: Units of the hidden layers.
    """
    x, start = features, 0
    for layer, (inputs, outputs) in enumerate(pairwise([features.shape[1], *hidden, 1])):
        x = functional.leaky_relu(x) if layer else x
        middle = start + inputs * outputs
        stop = middle + outputs
        x = functional.linear(x, omega[start:middle].view(outputs, inputs), omega[middle:stop])
        start = stop
    return x.squeeze(1).sigmoid()


def untaught(
    num_features: int, hidden: Sequence[int], generator: torch.Generator
) -> Float[Tensor, " N"]:
    """Return weights that say a half of everything: torch's usual ones, and 0 in the last layer."""
    sizes = [num_features, *hidden]
    drawn = [
        (2 * torch.rand((inputs + 1) * outputs, generator=generator) - 1) / math.sqrt(inputs)
        for inputs, outputs in pairwise(sizes)
    ]
    return torch.cat([*drawn, torch.zeros(sizes[-1] + 1)])
