"""Max-pooling that fills the vector units where no gradient is asked for.

Torch's max-pooling takes window by window and, in ``channels_last``, as many channels at once as
there are. Small networks have few: two thirds of what LeNet-5 takes to predict was pooling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WINDOW = {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1}


def settled(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model on its device as it runs fastest there; what it computes stays the same.

    Weights lie in ``channels_last``, the layout in which convolutions are fastest on CPU and GPU,
    and pooling layers that :class:`HalvingMaxPool2d` can stand for become such. On a CPU, models
    with strided 1 x 1 convolutions keep their layout.
    """
    for layer in model.modules():
        if type(layer) is nn.MaxPool2d and _halves(layer):
            layer.__class__ = HalvingMaxPool2d
    if device.type == "cpu" and any(_skips_pixels(layer) for layer in model.modules()):
        return model.to(device)
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class HalvingMaxPool2d(nn.MaxPool2d):
    """Max-pooling over windows of 2 x 2 that do not overlap, as two element-wise maxima.

    >>> with torch.inference_mode():
    ...     HalvingMaxPool2d(2)(torch.arange(16.0).view(1, 1, 4, 4)).flatten().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the largest of each window [..., H // 2, W // 2] of images [..., H, W]."""
        if torch.is_grad_enabled() or images.device.type != "cpu":  # torch's gradient is faster
            return super().forward(images)  # type: ignore[no-any-return]
        height, width = (size // 2 * 2 for size in images.shape[-2:])
        high = torch.maximum(images[..., 0:height:2, :], images[..., 1:height:2, :])
        return torch.maximum(high[..., 0:width:2], high[..., 1:width:2])


def _halves(pool: nn.MaxPool2d) -> bool:
    """Tell whether its windows of 2 x 2 tile the image."""
    tiles = all(getattr(pool, name) in (size, (size, size)) for name, size in _WINDOW.items())
    return tiles and not (pool.return_indices or pool.ceil_mode)


def _skips_pixels(layer: nn.Module) -> bool:
    """Return whether a layer is a 1 x 1 convolution with a stride, as in torchvision's ResNets.

    Its gradient in ``channels_last`` writes beyond its memory on a CPU (seen with torch 2.13): the
    process ends, or other numbers are wrong.
    """
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1)
