"""Multilayer perceptron, for images and flat features alike."""

from __future__ import annotations

import math

from torch import nn

from fedfuse.errors import ModelError
from fedfuse.validation import require_count


def mlp(
    input_shape: tuple[int, ...], num_classes: int, *, hidden: int = 200, depth: int = 2
) -> nn.Module:
    """Build a perceptron with ReLU between its layers.

    The defaults are the "2NN" of McMahan et al. 2017 (https://arxiv.org/abs/1602.05629): two
    hidden layers of 200 units, 199,210 parameters on 28x28 images and ten classes.

    Args:
        input_shape: Shape of one input, of any rank; it is flattened.
        num_classes: C.
        hidden: Units per hidden layer.
        depth: Number of hidden layers; 0 is softmax regression.

    Raises:
        ModelError: If an input has no elements.
        ParameterError: If a hyperparameter is out of range.

    >>> sum(p.numel() for p in mlp((1, 28, 28), 10).parameters())
    199210
    """
    require_count("mlp", "num_classes", num_classes)
    require_count("mlp", "hidden", hidden)
    require_count("mlp", "depth", depth, at_least=0)
    features = math.prod(input_shape)
    if features < 1:
        raise ModelError("Model 'mlp' got inputs without elements", got=f"shape {input_shape}")
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(features, hidden), nn.ReLU()]
        features = hidden
    return nn.Sequential(*layers, nn.Linear(features, num_classes))
