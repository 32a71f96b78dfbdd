"""Plain convolutional networks with two and four convolutions."""

from __future__ import annotations

from torch import nn

from fedfuse.errors import require
from fedfuse.models.layers import check_norm, image_shape, norm_layer
from fedfuse.validation import require_count


def cnn2(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 16,
    hidden: int = 128,
    kernel_size: int = 3,
    norm: str = "group",
) -> nn.Module:
    """Build two convolutions, each with 2x2 max-pooling, and one hidden layer.

    Small by default, for simulations on a CPU. ``width=32, hidden=512, kernel_size=5,
    norm="none"`` is the CNN of McMahan et al. 2017 (https://arxiv.org/abs/1602.05629) with its
    1,663,370 parameters.

    Args:
        input_shape: (channels, height, width), 4 pixels or more on a side.
        num_classes: C.
        width: Channels of the first convolution; the second has twice as many.
        hidden: Units of the hidden layer.
        kernel_size: Odd side of the kernels; padding keeps the size of the maps.
        norm: "group", "batch" or "none".

    Raises:
        ModelError: If the inputs are no images, or too small.
        ParameterError: If a hyperparameter is out of range.

    >>> net = cnn2((1, 28, 28), 10, width=32, hidden=512, kernel_size=5, norm="none")
    >>> sum(p.numel() for p in net.parameters())
    1663370
    """
    _check("cnn2", num_classes, width, hidden, kernel_size, norm)
    channels, height, width_px = image_shape("cnn2", input_shape, smallest=4)
    return nn.Sequential(
        *_conv(channels, width, kernel_size, norm, pool=True),
        *_conv(width, 2 * width, kernel_size, norm, pool=True),
        *_head(2 * width * (height // 4) * (width_px // 4), hidden, num_classes),
    )


def cnn4(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 16,
    hidden: int = 128,
    kernel_size: int = 3,
    norm: str = "group",
) -> nn.Module:
    """Build four convolutions in the manner of VGG: two, pool, two of twice the width, pool.

    Arguments and errors as of :func:`cnn2`; ``width`` are the channels of the first two
    convolutions, the others have twice as many.
    """
    _check("cnn4", num_classes, width, hidden, kernel_size, norm)
    channels, height, width_px = image_shape("cnn4", input_shape, smallest=4)
    return nn.Sequential(
        *_conv(channels, width, kernel_size, norm, pool=False),
        *_conv(width, width, kernel_size, norm, pool=True),
        *_conv(width, 2 * width, kernel_size, norm, pool=False),
        *_conv(2 * width, 2 * width, kernel_size, norm, pool=True),
        *_head(2 * width * (height // 4) * (width_px // 4), hidden, num_classes),
    )


def _conv(inputs: int, outputs: int, kernel_size: int, norm: str, *, pool: bool) -> list[nn.Module]:
    """Return convolution, normalisation, pooling and ReLU, leaving out what is not wanted."""
    # A normalisation layer brings a bias per channel of its own.
    conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=norm == "none")
    layers: list[nn.Module] = [conv]
    if norm != "none":
        layers.append(norm_layer(norm, outputs))
    if pool:
        layers.append(nn.MaxPool2d(2))
    # ReLU is monotone, so pooling first gives the same maps from a quarter of the work.
    return [*layers, nn.ReLU()]


def _head(features: int, hidden: int, num_classes: int) -> list[nn.Module]:
    """Return the classifier on top of the flattened maps."""
    return [nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)]


def _check(
    owner: str, num_classes: int, width: int, hidden: int, kernel_size: int, norm: str
) -> None:
    """Validate the hyperparameters that both networks have."""
    require_count(owner, "num_classes", num_classes)
    require_count(owner, "width", width)
    require_count(owner, "hidden", hidden)
    require_count(owner, "kernel_size", kernel_size)
    require(kernel_size % 2 == 1, owner, "kernel_size", kernel_size, "an odd integer")
    check_norm(owner, norm)
