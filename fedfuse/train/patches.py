"""Convolutions of many clients as one batched matrix product over unfolded patches.

Under ``vmap`` a convolution with a kernel per client becomes a grouped convolution, which few
libraries are fast at when groups are many and channels few. Unfolding the inputs into patches
turns it into one matrix product per client, at the price of a copy that is kernel_size^2 times the
input. Which is faster depends on the device; ``make bench`` measures both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Patches(TorchFunctionMode):
    """While active, ``conv2d`` without groups unfolds its input and multiplies.

    >>> x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 5, 5)
    >>> with Patches():
    ...     out = F.conv2d(x, weight, stride=2, padding=1)
    >>> torch.allclose(out, F.conv2d(x, weight, stride=2, padding=1), atol=1e-4)
    True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what ``func`` returns."""
        options = dict(kwargs or {})
        if func is torch.conv2d:
            named = dict(zip(_NAMES, args, strict=False)) | options
            if named.get("groups", 1) == 1 and not isinstance(named.get("padding", 0), str):
                named.pop("groups", None)
                return _convolve(**named)
        return func(*args, **options)


_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def _convolve(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """Return the convolution [B, O, h, w] of images [B, I, H, W] with kernels [O, I, kh, kw]."""
    kernel, image = weight.shape[2:], input
    pairs = [(v, v) if isinstance(v, int) else v for v in (stride, padding, dilation)]
    if any(pairs[1]):
        image = F.pad(image, (pairs[1][1], pairs[1][1], pairs[1][0], pairs[1][0]))
    # Views and one copy: F.unfold launches a kernel per image on CUDA.
    for side, size in enumerate(kernel):
        image = image.unfold(2 + side, pairs[2][side] * (size - 1) + 1, pairs[0][side])
        image = image[..., :: pairs[2][side]]
    patches = image.permute(0, 2, 3, 1, 4, 5)  # [B, h, w, I, kh, kw]
    lead = patches.shape[:3]
    table = patches.reshape(lead.numel(), -1)
    out = F.linear(table, weight.flatten(1), bias)
    return out.view(*lead, len(weight)).permute(0, 3, 1, 2)
