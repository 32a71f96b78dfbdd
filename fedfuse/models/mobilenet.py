"""MobileNetV2 for small images: convolutions that look at each channel by itself."""

from __future__ import annotations

from torch import Tensor, nn

from fedfuse.models.layers import check_norm, image_shape, norm_layer
from fedfuse.models.resnet import GlobalAveragePool
from fedfuse.validation import require_count, require_number

STAGES = (
    # expansion, channels, blocks, stride of the first; strides of 2 begin later than on ImageNet
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of the paper, with the strides of the stem and of the second stage left out."""

FIRST, LAST, MULTIPLE = 32, 1280, 8


def mobilenet_v2(
    input_shape: tuple[int, ...], num_classes: int, *, width: float = 1.0, norm: str = "group"
) -> nn.Module:
    """Build MobileNetV2 for images of about 32x32 (2,236,682 parameters on RGB, ten classes).

    Sandler et al. 2018 (https://arxiv.org/abs/1801.04381); a map is halved three times, and
    GroupNorm takes the place of BatchNorm unless told otherwise.

    Args:
        input_shape: (channels, height, width), 8 pixels or more on a side.
        num_classes: C.
        width: Factor of the published channels, which stay multiples of 8; above 0.
        norm: "group", "batch" or "none".

    Raises:
        ModelError: If the inputs are no images, or too small.
        ParameterError: If a hyperparameter is out of range.

    >>> sum(p.numel() for p in mobilenet_v2((3, 32, 32), 10).parameters())
    2236682
    """
    require_count("mobilenet_v2", "num_classes", num_classes)
    require_number("mobilenet_v2", "width", width, above=0)
    check_norm("mobilenet_v2", norm)
    channels, _, _ = image_shape("mobilenet_v2", input_shape, smallest=8)
    inputs = _scaled(FIRST, width)
    layers = _convolution(channels, inputs, 3, norm)
    for expansion, channels, blocks, stride in STAGES:
        outputs = _scaled(channels, width)
        for block in range(blocks):
            layers.append(
                InvertedResidual(inputs, outputs, expansion, 1 if block else stride, norm)
            )
            inputs = outputs
    last = _scaled(LAST, max(width, 1.0))
    layers += _convolution(inputs, last, 1, norm)
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Linear(last, num_classes))


class InvertedResidual(nn.Module):
    """Widen pixel by pixel, look at each channel by itself, narrow; the narrow ends are added.

    Args:
        inputs: Channels that come.
        outputs: Channels that go; the input is added if they are as many and nothing is halved.
        expansion: Factor of the channels in between.
        stride: Of the convolution in between.
        norm: "group", "batch" or "none".
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, norm: str) -> None:
        super().__init__()
        between = inputs * expansion
        layers = _convolution(inputs, between, 1, norm) if expansion > 1 else []
        layers += _convolution(between, between, 3, norm, stride=stride, apart=True)
        layers += _convolution(between, outputs, 1, norm)[:-1]  # the narrow end is linear
        self.layers = nn.Sequential(*layers)
        self.added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        out: Tensor = self.layers(x)
        return out + x if self.added else out


def _convolution(
    inputs: int, outputs: int, kernel: int, norm: str, *, stride: int = 1, apart: bool = False
) -> list[nn.Module]:
    """Return a convolution, a normalisation and ReLU6; ``apart``, each channel by itself."""
    conv = nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=inputs if apart else 1,
        bias=norm == "none",
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return [conv, norm_layer(norm, outputs), nn.ReLU6()]


def _scaled(channels: int, width: float) -> int:
    """Return so many channels times a factor, as a multiple of 8 that is at most a tenth smaller.

    >>> _scaled(24, 1.0), _scaled(24, 0.5), _scaled(96, 0.75), _scaled(16, 0.1)
    (24, 16, 72, 8)
    """
    wanted = channels * width
    nearest = max(MULTIPLE, int(wanted + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return nearest + MULTIPLE if nearest < 0.9 * wanted else nearest
