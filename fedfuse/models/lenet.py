"""LeNet-5, the small convolutional network of the digits."""

from __future__ import annotations

from torch import nn

from fedfuse.models.layers import image_shape
from fedfuse.validation import require_count


def lenet5(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build LeNet-5 in its modern form: ReLU and max-pooling.

    LeCun et al. 1998 (http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf) used scaled tanh,
    trainable average pooling and an RBF output; ReLU and max-pooling learn faster and are what
    the field runs under this name. Channels (6, 16), 5x5 kernels and the 120-84 head are the
    original's. It saw 32x32 inputs, so smaller ones are padded by two pixels: 28x28 has 61,706
    parameters. It has no normalisation layer.

    Args:
        input_shape: (channels, height, width), 12 pixels or more on a side.
        num_classes: C.

    Raises:
        ModelError: If the inputs are no images, or too small.

    >>> sum(p.numel() for p in lenet5((1, 28, 28), 10).parameters())
    61706
    """
    require_count("lenet5", "num_classes", num_classes)
    channels, height, width = image_shape("lenet5", input_shape, smallest=12)
    padding = 2 if min(height, width) < 32 else 0

    def side(pixels: int) -> int:
        return ((pixels + 2 * padding - 4) // 2 - 4) // 2

    return nn.Sequential(
        # ReLU is monotone, so pooling first gives the same maps from a quarter of the work.
        nn.Conv2d(channels, 6, kernel_size=5, padding=padding),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * side(height) * side(width), 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )
