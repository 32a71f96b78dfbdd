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
    kernel = weight.shape[2:]
    pairs = [(v, v) if isinstance(v, int) else v for v in (stride, padding, dilation)]
    height, width = (
        (size + 2 * pairs[1][i] - pairs[2][i] * (kernel[i] - 1) - 1) // pairs[0][i] + 1
        for i, size in enumerate(input.shape[2:])
    )
    patches = F.unfold(input, kernel, pairs[2], pairs[1], pairs[0])  # [B, I*kh*kw, h*w]
    table = patches.transpose(1, 2).flatten(0, 1)  # [B*h*w, I*kh*kw]
    out = F.linear(table, weight.flatten(1), bias)
    return out.view(len(input), height, width, len(weight)).permute(0, 3, 1, 2)
