"""Residual networks for small images, in the CIFAR form of the original paper."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fedfuse.models.layers import check_norm, image_shape, norm_layer
from fedfuse.validation import require_count


def resnet8(
    input_shape: tuple[int, ...], num_classes: int, *, width: int = 16, norm: str = "group"
) -> nn.Module:
    """Build the ResNet with one block per stage (75,290 parameters on 32x32x3, ten classes).

    Args:
        input_shape: (channels, height, width), 4 pixels or more on a side.
        num_classes: C.
        width: Channels of the first stage; they double with every stage.
        norm: "group", "batch" or "none".

    Raises:
        ModelError: If the inputs are no images, or too small.
        ParameterError: If a hyperparameter is out of range.

    >>> sum(p.numel() for p in resnet8((3, 32, 32), 10).parameters())
    75290
    """
    return _resnet("resnet8", input_shape, num_classes, blocks=1, width=width, norm=norm)


def resnet20(
    input_shape: tuple[int, ...], num_classes: int, *, width: int = 16, norm: str = "group"
) -> nn.Module:
    """Build the ResNet with three blocks per stage (269,722 parameters on 32x32x3, ten classes).

    Arguments and errors as of :func:`resnet8`.

    >>> sum(p.numel() for p in resnet20((3, 32, 32), 10).parameters())
    269722
    """
    return _resnet("resnet20", input_shape, num_classes, blocks=3, width=width, norm=norm)


def resnet18(
    input_shape: tuple[int, ...], num_classes: int, *, width: int = 64, norm: str = "group"
) -> nn.Module:
    """Build ResNet-18 for images of about 32x32 (11,173,962 parameters on RGB, ten classes).

    The network of the paper's ImageNet part with a 3x3 stem that halves nothing, as is usual on
    CIFAR: two blocks in each of four stages, projections as shortcuts.

    Arguments and errors as of :func:`resnet8`, with 8 pixels or more on a side.

    >>> sum(p.numel() for p in resnet18((3, 32, 32), 10).parameters())
    11173962
    """
    return _resnet("resnet18", input_shape, num_classes, blocks=2, width=width, norm=norm, stages=4)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Where the block halves the maps and doubles the channels, the shortcut takes every second
    pixel and pads the new channels with zeros (option A of He et al. 2016); ``projected``, it maps
    the channels of every second pixel (option B).
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, norm: str, *, projected: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride, norm)
        self.norm1 = norm_layer(norm, outputs)
        self.conv2 = _conv3x3(outputs, outputs, 1, norm)
        self.norm2 = norm_layer(norm, outputs)
        self.stride = stride
        self.new_channels = outputs - inputs
        self.shortcut: nn.Module | None = None
        if projected and (stride != 1 or self.new_channels):
            conv = nn.Conv2d(inputs, outputs, 1, bias=norm == "none")
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.shortcut = nn.Sequential(conv, norm_layer(norm, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        if self.stride != 1:
            # Not a stride of the projection: on a CPU, torch's gradient of a 1x1 convolution with
            # one in channels_last writes beyond its memory.
            x = x[:, :, :: self.stride, :: self.stride]
        if self.shortcut is not None:
            return F.relu(out + self.shortcut(x))
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(out + x)


class GlobalAveragePool(nn.Module):
    """Average every feature map."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to [B, channels]."""
        return x.mean(dim=(2, 3))


def _resnet(
    owner: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    blocks: int,
    width: int,
    norm: str,
    stages: int = 3,
) -> nn.Module:
    """Build stages of ``blocks`` residual blocks, 2 * stages * blocks + 2 layers in all.

    He et al. 2016 (https://arxiv.org/abs/1512.03385), with GroupNorm in the place of BatchNorm
    unless told otherwise: three stages as in section 4.2, four with projections as in 4.1.
    """
    require_count(owner, "num_classes", num_classes)
    require_count(owner, "width", width)
    check_norm(owner, norm)
    channels, _, _ = image_shape(owner, input_shape, smallest=2 ** (stages - 1))
    layers: list[nn.Module] = [_conv3x3(channels, width, 1, norm), norm_layer(norm, width)]
    layers.append(nn.ReLU())
    inputs = width
    for stage in range(stages):
        outputs = width * 2**stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(ResidualBlock(inputs, outputs, stride, norm, projected=stages > 3))
            inputs = outputs
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Linear(inputs, num_classes))


def _conv3x3(inputs: int, outputs: int, stride: int, norm: str) -> nn.Conv2d:
    """Return a 3x3 convolution with He's initialisation, with a bias only if nothing follows."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=norm == "none")
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
