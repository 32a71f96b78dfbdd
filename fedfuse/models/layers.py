"""What the factories share: the choice of a normalisation layer and the checks of their arguments.

Normalisation is GroupNorm by default. BatchNorm estimates a mean and a variance from each
mini-batch and keeps running averages for evaluation; under small batches the estimates are noisy,
and under label skew the running averages belong to the client's own classes, so predictions on a
shared public set are normalised with the wrong statistics (Hsieh et al. 2020,
https://arxiv.org/abs/1910.00189). GroupNorm (Wu & He 2018, https://arxiv.org/abs/1803.08494)
normalises every sample by itself: it has no state and does the same in training and evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from fedfuse.errors import ModelError
from fedfuse.validation import require_one_of

NORMS = ("group", "batch", "none")
"""The values of every ``norm`` parameter."""

GROUPS = 4
"""Groups per GroupNorm layer; 16 channels then give 4 per group, as small nets have few."""


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Return the normalisation layer for ``channels`` feature maps.

    >>> layer = norm_layer("group", 16)
    >>> type(layer).__name__, layer.num_groups
    ('GroupNorm', 4)
    """
    if norm == "group":
        return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


def check_norm(owner: str, norm: str) -> None:
    """Raise :class:`ParameterError` unless ``norm`` is one of :data:`NORMS`."""
    require_one_of(owner, "norm", norm, NORMS)


def image_shape(owner: str, input_shape: Sequence[int], smallest: int) -> tuple[int, int, int]:
    """Return (channels, height, width), or say why the model cannot take such inputs.

    Args:
        owner: The model's name.
        input_shape: Shape of one input.
        smallest: Fewest pixels on a side that leave the model something to look at.

    Raises:
        ModelError: If the inputs are no images, or too small.

    >>> image_shape("lenet5", [1, 28, 28], 12)
    (1, 28, 28)
    """
    shape = "x".join(str(size) for size in input_shape)
    if len(input_shape) != 3:
        raise ModelError(
            f"Model '{owner}' needs images",
            got=f"inputs of shape [{shape}]",
            allowed="inputs of shape [channels, height, width]",
            next_step="Use model=mlp, which takes any shape"
            + (
                ", or save grey images with a channel: x[:, None]."
                if len(input_shape) == 2
                else "."
            ),
        )
    channels, height, width = input_shape
    if width in (1, 3) and channels not in (1, 3) and min(channels, height) >= smallest:
        raise ModelError(
            f"Model '{owner}' needs images with their channels first",
            got=f"inputs of shape [{shape}]",
            allowed="inputs of shape [channels, height, width]",
            next_step="Save them as x.transpose(0, 3, 1, 2).",
        )
    if channels < 1 or min(height, width) < smallest:
        raise ModelError(
            f"The inputs are too small for model '{owner}'",
            got=f"inputs of shape [{shape}]",
            allowed=f"at least {smallest} pixels on each side",
            next_step="Use model=mlp, which takes any shape.",
        )
    return channels, height, width


def text_length(owner: str, input_shape: Sequence[int]) -> int:
    """Return how many words a text has at most, or say why the model cannot take such inputs.

    Raises:
        ModelError: If the inputs are no rows of word numbers.
    """
    if len(input_shape) != 1:
        raise ModelError(
            f"Model '{owner}' needs text",
            got=f"inputs of shape [{'x'.join(str(size) for size in input_shape)}]",
            allowed="word numbers of shape [words]",
            next_step="Choose a data set of texts (dataset=docstrings, dataset=text), or another "
            "model.",
        )
    return input_shape[0]
